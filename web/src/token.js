// An access token as the page sees it: only the relay can tell whether it is good.

export class NotAToken extends Error {}

// Who a token is for. Throws NotAToken with what to tell the user.
export function read(text) {
  const parts = text.trim().split(".");
  let claims;
  try {
    const plain = atob(parts[1].replaceAll("-", "+").replaceAll("_", "/"));
    claims = JSON.parse(new TextDecoder().decode(Uint8Array.from(plain, (c) => c.charCodeAt(0))));
  } catch {
    claims = null;
  }
  if (parts.length !== 3 || typeof claims?.sub !== "string") {
    throw new NotAToken("That is not an access token: it has three parts with dots between them.");
  }
  return {
    text: text.trim(),
    identity: claims.sub,
    region: claims.region,
    expires: typeof claims.exp === "number" ? new Date(claims.exp * 1000) : null,
  };
}
