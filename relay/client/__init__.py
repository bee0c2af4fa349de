"""Voice client SDK: register, call, answer, play and record, on aiortc (extra `[client]`).

    async with Client("wss://ie1.example:8443", token) as client:
        call = await client.call("+35315550199")
        await call.answered()
        call.record("heard.wav")
        await call.play("hello.wav")
        await call.hang_up()

Everything is asyncio and typed. `docs/clients.md` says more.
"""

from relay.client.call import Call
from relay.client.client import Client
from relay.client.description import Codec
from relay.client.errors import (
    BadToken,
    CallEnded,
    ClientError,
    ConnectionFailed,
    MediaFailed,
    Refused,
    TokenExpired,
    TokenRefused,
)
from relay.client.events import (
    Answered,
    CallEvent,
    ClientEvent,
    Closed,
    Disconnected,
    Ended,
    Held,
    IncomingCall,
    KeyPressed,
    PathLost,
    PathRestored,
    Registered,
    Resumed,
    Ringing,
    State,
    TokenExpiring,
)
from relay.client.figures import Figures
from relay.client.playout import Playback
from relay.client.recording import Recording, Sound

__all__ = [
    "Answered",
    "BadToken",
    "Call",
    "CallEnded",
    "CallEvent",
    "Client",
    "ClientError",
    "ClientEvent",
    "Closed",
    "Codec",
    "ConnectionFailed",
    "Disconnected",
    "Ended",
    "Figures",
    "Held",
    "IncomingCall",
    "KeyPressed",
    "MediaFailed",
    "PathLost",
    "PathRestored",
    "Playback",
    "Recording",
    "Refused",
    "Registered",
    "Resumed",
    "Ringing",
    "Sound",
    "State",
    "TokenExpired",
    "TokenExpiring",
    "TokenRefused",
]
