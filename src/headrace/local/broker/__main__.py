"""``python -m headrace.local.broker --dir DIR --port PORT``: runs the embedded broker until SIGTERM or SIGINT."""

import argparse
import asyncio
import contextlib
import signal
from pathlib import Path


def main() -> None:
    """Runs a broker."""
    parser = argparse.ArgumentParser(prog="python -m headrace.local.broker", description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="the folder of its data; is made when it is not there")
    parser.add_argument("--port", type=int, default=9092, help="of 127.0.0.1 (default: %(default)s)")
    given = parser.parse_args()
    given.dir.mkdir(parents=True, exist_ok=True)
    asyncio.run(_serve(given.port))


async def _serve(port: int) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    server = await asyncio.start_server(_refuse, "127.0.0.1", port)
    print(f"listening on 127.0.0.1:{port} (a skeleton)", flush=True)  # noqa: T201
    await ended.wait()
    server.close()


async def _refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        writer.close()
        await writer.wait_closed()


if __name__ == "__main__":
    main()
