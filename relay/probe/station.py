"""One SIP phone on pjsua2: an account, at most one call, a WAV to play and one to write.

Says what happens as JSON lines on stdout; `relay.probe.endpoint` describes them.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import pjsua2 as pj

POLL_MS = 5
KINDS = {
    "udp": pj.PJSIP_TRANSPORT_UDP,
    "tcp": pj.PJSIP_TRANSPORT_TCP,
    "tls": pj.PJSIP_TRANSPORT_TLS,
}
STATES = {
    pj.PJSIP_INV_STATE_CALLING: "calling",
    pj.PJSIP_INV_STATE_EARLY: "early",
    pj.PJSIP_INV_STATE_CONNECTING: "connecting",
    pj.PJSIP_INV_STATE_CONFIRMED: "confirmed",
    pj.PJSIP_INV_STATE_DISCONNECTED: "disconnected",
}
SRTP = {
    "off": pj.PJMEDIA_SRTP_DISABLED,
    "optional": pj.PJMEDIA_SRTP_OPTIONAL,
    "required": pj.PJMEDIA_SRTP_MANDATORY,
}


def emit(event: str, **fields: Any) -> None:
    """Write one event line."""
    print(json.dumps({"event": event, "at": time.time(), **fields}), flush=True)


class Player(pj.AudioMediaPlayer):  # type: ignore[misc]
    """Plays one WAV once and says when it ended."""

    def onEof2(self) -> None:
        emit("played")


class Call(pj.Call):  # type: ignore[misc]
    """One call: bridges the WAV player and recorder to its audio."""

    def __init__(self, station: Station, number: int = pj.PJSUA_INVALID_ID) -> None:
        super().__init__(station.account, number)
        self.station = station

    def onCallState(self, prm: pj.OnCallStateParam) -> None:
        info = self.getInfo()
        state = STATES.get(info.state)
        if state is None:
            return
        emit("state", state=state, status=info.lastStatusCode, reason=info.lastReason)
        if state == "disconnected":
            self.station.finished(self)

    def onCallMediaState(self, prm: pj.OnCallMediaStateParam) -> None:
        info = self.getInfo()
        for media in info.media:
            if media.type == pj.PJMEDIA_TYPE_AUDIO:
                active = media.status == pj.PJSUA_CALL_MEDIA_ACTIVE
                emit("media", active=active, direction=int(media.dir))
                if active:
                    self.station.connect(self.getAudioMedia(media.index))

    def onStreamDestroyed(self, prm: pj.OnStreamDestroyedParam) -> None:
        self.report()  # the last moment at which the stream has figures

    def onDtmfDigit(self, prm: pj.OnDtmfDigitParam) -> None:
        emit("dtmf", key=prm.digit)

    def onCallTransferStatus(self, prm: pj.OnCallTransferStatusParam) -> None:
        emit("transferred", status=prm.statusCode, final=bool(prm.finalNotify))

    def report(self) -> None:
        """Emit what this side received and sent so far."""
        rtcp = self.getStreamStat(0).rtcp
        emit(
            "figures",
            received=rtcp.rxStat.pkt,
            lost=rtcp.rxStat.loss,
            jitter_ms=rtcp.rxStat.jitterUsec.last / 1000,
            sent=rtcp.txStat.pkt,
            round_trip_ms=rtcp.rttUsec.mean / 1000 if rtcp.rttUsec.n else None,
        )


class Account(pj.Account):  # type: ignore[misc]
    """An identity without registration; answers what comes in."""

    def __init__(self, station: Station) -> None:
        super().__init__()
        self.station = station

    def onIncomingCall(self, prm: pj.OnIncomingCallParam) -> None:
        self.station.incoming(prm.callId)


class Station:
    """The endpoint: library, one account, at most one call, its player and recorder."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.call: Call | None = None
        self.ended: list[Call] = []
        self.player: Player | None = None
        self.recorder: pj.AudioMediaRecorder | None = None
        self.answer_at: float | None = None
        self.running = True
        self.endpoint = pj.Endpoint()
        self._start()
        self.account = Account(self)
        self.account.create(self._account())

    def _start(self) -> None:
        config = pj.EpConfig()
        config.uaConfig.threadCnt = 0
        config.uaConfig.mainThreadOnly = True
        config.uaConfig.userAgent = "relay-probe"
        config.logConfig.level = config.logConfig.consoleLevel = 0
        if self.options.log:
            config.logConfig.level = 5
            config.logConfig.filename = self.options.log
        config.medConfig.noVad = True
        config.medConfig.clockRate = config.medConfig.sndClockRate = 8000
        config.medConfig.ecTailLen = 0
        self.endpoint.libCreate()
        self.endpoint.libInit(config)
        transport = self._transport(self.options.port)
        if self.options.transport == "tls":
            self._secure(transport.tlsConfig)
        self.transport = self.endpoint.transportCreate(KINDS[self.options.transport], transport)
        self.endpoint.audDevManager().setNullDev()
        self.endpoint.libStart()
        for codec in self.endpoint.codecEnum2():
            wanted = codec.codecId.upper().startswith(self.options.codec.upper() + "/")
            self.endpoint.codecSetPriority(codec.codecId, 255 if wanted else 0)

    def _transport(self, port: int) -> pj.TransportConfig:
        config = pj.TransportConfig()
        config.boundAddress = config.publicAddress = self.options.bind
        config.port = port
        return config

    def _secure(self, config: pj.TlsConfig) -> None:
        """Our certificate both ways; the other side's is verified both ways."""
        config.method = pj.PJSIP_TLSV1_2_METHOD
        config.certFile, config.privKeyFile = self.options.certificate, self.options.key
        config.CaListFile = self.options.ca
        config.verifyServer = config.verifyClient = True

    def _account(self) -> pj.AccountConfig:
        config = pj.AccountConfig()
        config.idUri = f"sip:{self.options.user}@{self.options.bind}:{self.options.port}"
        config.regConfig.registerOnAdd = False
        if self.options.username:
            secret = pj.AuthCredInfo("digest", "*", self.options.username, 0, self.options.password)
            config.sipConfig.authCreds.append(secret)
        config.sipConfig.transportId = self.transport
        config.mediaConfig.transportConfig = self._transport(self.options.media_port)
        config.mediaConfig.transportConfig.portRange = 100
        # The demonstration measures every packet, also those of silence.
        config.mediaConfig.streamKaEnabled = False
        config.mediaConfig.srtpUse = SRTP[self.options.srtp]
        config.mediaConfig.srtpSecureSignaling = 0  # keys are offered over UDP, too
        config.mediaConfig.srtpOpt.keyings.append(pj.PJMEDIA_SRTP_KEYING_SDES)
        for suite in filter(None, self.options.srtp_suites.split(",")):
            crypto = pj.SrtpCrypto()
            crypto.name = suite
            config.mediaConfig.srtpOpt.cryptos.append(crypto)
        config.callConfig.timerUse = pj.PJSUA_SIP_TIMER_INACTIVE
        return config

    def incoming(self, number: int) -> None:
        if self.call is not None:
            emit("error", text="a second call came in")
            second = Call(self, number)
            second.answer(_operation(486))
            self.ended.append(second)
            return
        self.call = Call(self, number)
        emit("incoming", uri=self.call.getInfo().remoteUri, to=self.call.getInfo().localUri)
        if self.options.refuse:
            self.call.answer(_operation(self.options.refuse))
            return
        self.call.answer(_operation(180))
        if self.options.ring_s >= 0:
            self.answer_at = time.monotonic() + self.options.ring_s

    def connect(self, audio: pj.AudioMedia) -> None:
        """Bridge the WAV files to the call (again after each re-INVITE)."""
        if self.options.play and self.player is None:
            self.player = Player()
            self.player.createPlayer(self.options.play, pj.PJMEDIA_FILE_NO_LOOP)
        if self.options.record and self.recorder is None:
            self.recorder = pj.AudioMediaRecorder()
            self.recorder.createRecorder(self.options.record)
        if self.player is not None:
            self.player.startTransmit(audio)
        if self.recorder is not None:
            audio.startTransmit(self.recorder)

    def finished(self, call: Call) -> None:
        self.ended.append(call)  # freed outside of its own callback
        if call is self.call:
            self.call = None
            self.answer_at = None

    def poll(self) -> None:
        """Let the library work, answer when it is time, free what ended."""
        self.endpoint.libHandleEvents(POLL_MS)
        due = self.answer_at is not None and time.monotonic() >= self.answer_at
        if due and self.call is not None:
            self.answer_at = None
            self.call.answer(_operation(200))
        if self.ended:
            self.ended.clear()
            self.player = self.recorder = None  # closes the recorded file
            emit("bye")

    def close(self) -> None:
        """Everything that wraps a library object goes before the library."""
        self.endpoint.hangupAllCalls()
        deadline = time.monotonic() + 2
        while self.call is not None and time.monotonic() < deadline:
            self.poll()
        self.call = self.player = self.recorder = None
        self.ended.clear()
        self.account.shutdown()
        del self.account
        self.endpoint.libDestroy()

    # --- commands ---

    def do_call(self, uri: str) -> None:
        self.call = Call(self)
        self.call.makeCall(uri, pj.CallOpParam(True))

    def do_answer(self) -> None:
        self._current().answer(_operation(200))

    def do_dtmf(self, digits: str) -> None:
        self._current().dialDtmf(digits)

    def do_hangup(self) -> None:
        self._current().hangup(pj.CallOpParam())

    def do_hold(self) -> None:
        self._current().setHold(pj.CallOpParam())

    def do_resume(self) -> None:
        operation = pj.CallOpParam(True)
        operation.opt.flag = pj.PJSUA_CALL_UNHOLD
        self._current().reinvite(operation)

    def do_rekey(self) -> None:
        """re-INVITE with a media transport made anew: other SRTP keys."""
        operation = pj.CallOpParam(True)
        operation.opt.flag = pj.PJSUA_CALL_REINIT_MEDIA
        self._current().reinvite(operation)

    def do_transfer(self, uri: str) -> None:
        self._current().xfer(uri, pj.CallOpParam())

    def do_play(self) -> None:
        if self.player is None:
            raise ValueError("there is no WAV to play")
        self.player.setPos(0)

    def do_figures(self) -> None:
        self._current().report()

    def do_quit(self) -> None:
        self.running = False

    def _current(self) -> Call:
        if self.call is None:
            raise ValueError("there is no call")
        return self.call


def _operation(status: int) -> pj.CallOpParam:
    operation = pj.CallOpParam()
    operation.statusCode = status
    return operation
