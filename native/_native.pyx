# cython: language_level=3, cdivision=True, boundscheck=False, wraparound=False
"""The media engine: worker threads that forward packets without the GIL.

Only relay/media uses this module. Python opens, changes and closes calls here and reads
figures and events; nothing in Python runs per packet.
"""

from base64 import b64encode as _b64encode
from os import urandom as _urandom

cimport cython
from libc.stdint cimport int16_t, int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset, strerror

from bursts cimport Bursts as BurstsState, bursts_feed
from dtmf cimport Dtmf as DtmfState, DtmfPress, dtmf_feed, dtmf_silent
from flow cimport CNAME_OCTETS, RTP, Call, Leg, Settings
from ice cimport UFRAG_OCTETS, LegIce, ice_rename, stun_wanted as stun_filter
from opus cimport RELAY_HAS_OPUS
from jitter cimport JITTER_OCTETS, TAKEN_LATE, jitter_target_ms
from openssl cimport OPENSSL_cleanse
from packet cimport (
    DROP_COUNT, DROP_NONE, KIND_RTCP, KIND_RTP, MAX_DATAGRAM_OCTETS, Drop, Kind, RtcpView,
    RtpView, demux, rtcp_view, rtp_header, rtp_view,
)
from packets cimport PACKET_PLACES, Packet, PacketRing
from ring cimport (
    COMMAND_CLOSE, COMMAND_OFFER, COMMAND_OPEN, COMMAND_RECORD, COMMAND_SECURE, COMMAND_SELECT,
    COMMAND_UPDATE,
    EVENT_PLACES, Command, Event, commands_push,
)
from rules cimport LATCH_NETWORKS, inside_region
from srtp cimport srtcp_close, srtcp_open, srtp_close, srtp_open
from srtp_keys cimport (
    AUTH_OCTETS, SRTP_MKI_OCTETS, SRTP_TAIL_OCTETS, SessionKeys, SrtpKey, Suite, srtp_derive,
    srtp_key_free, srtp_key_new, srtp_keys_free,
)
from stats cimport Stats as StatsState, stats_expected, stats_feed, stats_lost
from sys cimport (
    EFD_CLOEXEC, EFD_NONBLOCK, EPOLL_CLOEXEC, close, epoll_create1, eventfd, eventfd_write,
    pthread_join, relay_address, relay_address_port, relay_address_set, relay_address_text,
    relay_bind, relay_is_ipv6, relay_load64, relay_load_int, relay_now_ns, relay_send,
    relay_store64, relay_store_int, relay_thread_start, relay_watch,
)
from voice cimport (
    FRAME, MOST_FRAMES, VOICE_NONE, VOICE_OPUS, VOICE_PCMA, VOICE_PCMU, Coding, Played, Voice,
    voice_frame, voice_free, voice_level_ms, voice_new, voice_put,
)
from worker cimport Worker as WorkerState, call_release, worker_main

include "address.pxi"
include "timeline.pxi"
include "srtp.pxi"
include "call.pxi"
include "worker.pxi"
include "hooks.pxi"

HAS_OPUS = bool(RELAY_HAS_OPUS)
_VOICE_CODECS = {"PCMU": VOICE_PCMU, "PCMA": VOICE_PCMA, "OPUS": VOICE_OPUS}
DROP_NAMES = (
    "none", "short", "oversized", "not_rtp", "bad_version", "malformed", "stun", "dtls",
    "not_rtcp", "rtcp_mux_not_negotiated", "not_described", "wrong_source", "latch_refused",
    "wrong_ssrc", "payload_type_not_negotiated", "on_hold", "receiver_on_hold", "no_destination",
    "send_failed", "srtp_too_short", "srtp_unknown_mki", "srtp_authentication_failed",
    "srtp_replayed", "srtp_too_many_streams", "srtp_number_repeated", "srtp_key_exhausted",
    "outside_region", "stun_not_a_request", "stun_unknown_user", "stun_too_many",
    "dtls_wrong_source", "dtls_too_many", "packets_waiting", "no_path_selected", "not_secured",
    "receiver_not_secured", "too_late_to_transcode",
)
if len(DROP_NAMES) != DROP_COUNT:
    raise ImportError("every drop code has one name")
