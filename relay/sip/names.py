"""Names of SIP header fields (RFC 3261 section 7.3): how each is spelled, its compact form,
and which hold comma lists."""

_NAMES = """Accept Accept-Contact Accept-Encoding Accept-Language Alert-Info Allow
Allow-Events Authentication-Info Authorization Call-ID Call-Info Contact
Content-Disposition Content-Encoding Content-ID Content-Language Content-Length
Content-Type CSeq Date Diversion Error-Info Event Expires From Geolocation
History-Info Identity In-Reply-To Join Max-Forwards MIME-Version Min-Expires Min-SE
Organization P-Asserted-Identity P-Charging-Vector P-Preferred-Identity Path Priority
Privacy Proxy-Authenticate Proxy-Authorization Proxy-Require RAck Reason Record-Route
Refer-To Referred-By Reject-Contact Remote-Party-ID Replaces Reply-To
Request-Disposition Require Retry-After Route RSeq Server Service-Route
Session-Expires SIP-ETag SIP-If-Match Subject Subscription-State Supported
Target-Dialog Timestamp To Unsupported User-Agent User-to-User Via Warning
WWW-Authenticate"""

COMPACT = {
    "a": "Accept-Contact",
    "b": "Referred-By",
    "c": "Content-Type",
    "d": "Request-Disposition",
    "e": "Content-Encoding",
    "f": "From",
    "i": "Call-ID",
    "j": "Reject-Contact",
    "k": "Supported",
    "l": "Content-Length",
    "m": "Contact",
    "o": "Event",
    "r": "Refer-To",
    "s": "Subject",
    "t": "To",
    "u": "Allow-Events",
    "v": "Via",
    "x": "Session-Expires",
    "y": "Identity",
}

# Header fields whose grammar is a comma list. Anything else (Authorization, Date,
# Subject …) has commas of its own and is never split.
_LISTS = """Accept Accept-Contact Accept-Encoding Accept-Language Alert-Info Allow Allow-Events
    Call-Info Contact Content-Encoding Content-Language Diversion Error-Info Geolocation
    History-Info In-Reply-To P-Asserted-Identity P-Preferred-Identity Path Proxy-Require
    Reason Record-Route Reject-Contact Remote-Party-ID Request-Disposition Require Route
    Service-Route Supported Unsupported Via Warning"""
LISTS = frozenset(_LISTS.split())

CANONICAL: dict[str, str] = {}
for _name in _NAMES.split():
    CANONICAL[_name] = CANONICAL[_name.lower()] = _name
for _short, _name in COMPACT.items():
    CANONICAL[_short] = CANONICAL[_short.upper()] = _name


def canonical(name: str) -> str:
    """The canonical spelling of a known name or compact form; others stay as written."""
    return CANONICAL.get(name) or CANONICAL.get(name.lower()) or name
