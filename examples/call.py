"""Call a number, say a WAV file, press keys, and keep what was heard.

python examples/call.py wss://ie1.example:8443 TOKEN +35315550199 hello.wav heard.wav
"""

import asyncio
import sys

from relay.client import Client


async def main(url: str, token: str, number: str, say: str, heard: str) -> None:
    async with Client(url, token) as client:
        call = await client.call(number)
        await call.answered()
        call.record(heard)
        await call.play(say)
        await call.send_dtmf("12#")
        print(await call.figures())
        await call.hang_up()


asyncio.run(main(*sys.argv[1:]))
