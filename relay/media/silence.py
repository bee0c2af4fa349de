"""Why is there no audio? One sentence per leg, from what its flow entry counted."""

from __future__ import annotations

from typing import Any

FLOWING_S = 2.0  # a packet was relayed this recently: there is audio

_SENTENCES = {
    "short": "What arrives is too short to be RTP.",
    "oversized": "What arrives is longer than 2048 octets.",
    "not_rtp": "What arrives is not RTP.",
    "bad_version": "What arrives is not RTP version 2.",
    "malformed": "What arrives is malformed RTP.",
    "not_described": "Packets arrive, but no media description names this peer's address.",
    "wrong_ssrc": "Packets arrive with another SSRC than the one that was learned.",
    "payload_type_not_negotiated": "Packets arrive with a payload type that was not negotiated.",
    "on_hold": "This peer sends although it is on hold.",
    "receiver_on_hold": "The other peer is on hold and wants no media.",
    "no_destination": "Packets arrive, but the address of the other peer is not known.",
    "not_rtcp": "What arrives on the RTCP port is not RTCP.",
    "rtcp_mux_not_negotiated": "RTCP arrives on the RTP port, which was not negotiated.",
    "stun": "This peer wants ICE (STUN arrives), which was not negotiated.",
    "dtls": "This peer wants DTLS-SRTP, which was not negotiated.",
    "send_failed": "Packets arrive, but sending them to the other peer fails.",
    "srtp_too_short": "What arrives is too short to be SRTP of the negotiated suite.",
    "srtp_unknown_mki": "What arrives names an SRTP master key (MKI) that was not negotiated.",
    "srtp_authentication_failed": (
        "Packets arrive, but their authentication failed: another SRTP key, or not SRTP."
    ),
    "srtp_replayed": "What arrives are replayed SRTP packets, or SRTP packets far too late.",
    "srtp_too_many_streams": "This peer uses more SSRCs under one SRTP key than are followed.",
    "srtp_number_repeated": "This peer repeats sequence numbers, which SRTP may not send twice.",
    "srtp_key_exhausted": "The SRTP key towards the other peer is used up.",
    "receiver_not_secured": "The other peer's keys are not agreed yet (DTLS is not done).",
    "outside_region": "ICE or DTLS arrives from outside this region's networks.",
    "stun_not_a_request": "STUN arrives that is no request.",
    "stun_unknown_user": "ICE checks arrive with another user name than ours.",
    "stun_too_many": "Far too many ICE checks arrive.",
    "dtls_wrong_source": "DTLS arrives from another address than the selected path.",
    "dtls_too_many": "Far too many DTLS packets arrive.",
    "packets_waiting": "More ICE checks and DTLS arrive than can be dealt with.",
    "no_path_selected": "No ICE check of this client has selected a path.",
    "not_secured": "The keys of this client are not agreed yet (DTLS is not done).",
    "too_late_to_transcode": "Its packets come too late to be transcoded in their order.",
}


def reason_for_silence(raw: dict[str, Any]) -> str | None:
    """The sentence for `_native.CallFlows.figures`, or None while audio is relayed."""
    relayed_s = raw["relayed_since_s"]
    if relayed_s is not None and relayed_s < FLOWING_S:
        return None
    if not raw["described"]:
        return "No media description was applied to this leg."
    if raw["secured"] and raw["expected_source"] is None:
        return _SENTENCES["no_path_selected"]
    if raw["secured"] and not raw["keyed"]:
        return _SENTENCES["not_secured"]
    dropped_s = raw["dropped_since_s"]
    fresh = dropped_s is not None and (relayed_s is None or dropped_s < relayed_s)
    if fresh and raw["last_drop"] in ("wrong_source", "latch_refused"):
        return _wrong_source(raw)
    if not raw["may_send"]:
        return "This leg is on hold."
    if fresh:
        return _SENTENCES[raw["last_drop"]]
    if relayed_s is None:
        return "Nothing was received."
    return f"Nothing was received for {relayed_s:.0f} s."


def _wrong_source(raw: dict[str, Any]) -> str:
    came = _endpoint(raw["stranger"])
    expected = _endpoint(raw["expected_source"])
    if raw["last_drop"] == "latch_refused":
        return f"Packets come from {came}, outside the networks where a source may be learned."
    return f"Packets come from {came}, but are accepted only from {expected} (wrong source)."


def _endpoint(address: tuple[str, int] | None) -> str:
    if address is None:
        return "an unknown address"
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
