"""The broker on its port: connections, their requests one after the other, and the folder that it works on."""

import asyncio
import logging
import os
from pathlib import Path
from typing import Any

from kafka.protocol.metadata import ApiVersionsRequest, ApiVersionsResponse

from headrace.local.broker.api import Api, Asked
from headrace.local.broker.catalogue import Catalogue
from headrace.local.broker.codes import Code
from headrace.local.broker.coordinator import Coordinator
from headrace.local.broker.files import locked
from headrace.local.broker.frames import HEAD_BYTES, Head, Malformed, answered, body_of, head_of
from headrace.local.broker.group_requests import GroupRequests
from headrace.local.broker.offset_requests import OffsetRequests
from headrace.local.broker.offsets import Offsets
from headrace.local.broker.record_requests import RecordRequests
from headrace.local.broker.setting_requests import SettingRequests
from headrace.local.broker.topic_requests import Address, TopicRequests

log = logging.getLogger(__name__)

HOST = "127.0.0.1"  # and nothing else: there is no password and no encryption
_MOST_CONNECTIONS = 1_000
_BUFFER_BYTES = 1 << 20


class Server:
    """One broker on one folder."""

    def __init__(self, folder: Path, port: int, most_partitions: int) -> None:
        """Opens the folder, which nobody else may have open.

        Args:
            folder: is made when it is not there.
            port: of 127.0.0.1.
            most_partitions: of all topics together; each is an open file.

        Raises:
            FolderInUse: another broker runs on it.
            ValueError: what lies in it was not written by this broker.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = locked(folder)
        self._port = port
        self._catalogue = Catalogue(folder, most_partitions)
        offsets = Offsets(folder / "offsets.jsonl")
        self._coordinator = Coordinator(offsets)
        address = Address(HOST, port)
        parts = (
            RecordRequests(self._catalogue),
            TopicRequests(self._catalogue, address, offsets.forget_topic),
            SettingRequests(self._catalogue),
            GroupRequests(self._coordinator, address),
            OffsetRequests(self._coordinator, self._catalogue),
        )
        self._apis: dict[int, Api] = {api.request.API_KEY: api for part in parts for api in part.apis}
        self._apis[ApiVersionsRequest.API_KEY] = Api(ApiVersionsRequest, (0, 4), self._versions)
        self._most_bytes = max(api.most_bytes for api in self._apis.values())
        self._talks: set[asyncio.Task[None]] = set()
        self._listening: asyncio.Server | None = None

    async def start(self) -> None:
        """Listens on the port.

        Raises:
            OSError: the port is taken.
        """
        self._listening = await asyncio.start_server(self._talk, HOST, self._port, limit=_BUFFER_BYTES)

    async def stop(self) -> None:
        """Ends all connections and closes the files."""
        if self._listening is not None:
            self._listening.close()
        for talk in self._talks:
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)
        self._catalogue.close()
        self._coordinator.offsets.close()
        os.close(self._lock)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = asyncio.current_task()
        if talk is None or len(self._talks) >= _MOST_CONNECTIONS:
            log.warning("refused a connection: there are %d already", len(self._talks))
            writer.close()
            return
        self._talks.add(talk)
        host = str((writer.get_extra_info("peername") or ("",))[0])
        try:
            await self._requests(reader, writer, host)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client has gone, or the broker goes
        except Malformed as error:
            log.warning("closed a connection from %s: %s", host, error)
        except Exception as error:  # one request must not end the broker
            log.error("closed a connection from %s: its request cannot be answered: %.300r", host, error)
        finally:
            self._talks.discard(talk)
            writer.close()

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        while True:
            size_bytes = int.from_bytes(await reader.readexactly(4), signed=True)
            if not HEAD_BYTES <= size_bytes <= self._most_bytes:
                raise Malformed(f"a frame of {size_bytes} bytes is no request")
            frame = await reader.readexactly(HEAD_BYTES)
            api = self._api(frame, size_bytes)
            wire = await self._answer(frame + await reader.readexactly(size_bytes - HEAD_BYTES), api, host)
            if wire is not None:
                writer.write(wire)
                await writer.drain()

    def _api(self, head: bytes, size_bytes: int) -> Api:
        key = int.from_bytes(head[:2], signed=True)
        api = self._apis.get(key)
        if api is None:
            raise Malformed(f"there is no answer to requests of kind {key}")
        if size_bytes > api.most_bytes:
            raise Malformed(f"a {api.request.name} of {size_bytes} bytes is too large: at most {api.most_bytes}")
        return api

    async def _answer(self, frame: bytes, api: Api, host: str) -> bytes | None:
        head = head_of(frame)
        if not api.versions[0] <= head.version <= api.versions[1]:
            return self._unsupported(head, api)
        asked = Asked(body_of(frame, head, api.request), head.version, head.client_id, host)
        response = await api.answer(asked)
        return None if response is None else answered(response, head.correlation_id)

    def _unsupported(self, head: Head, api: Api) -> bytes:
        """Tells a client which versions there are, when that is what it asks; it may ask in a newer version."""
        if head.api_key != ApiVersionsRequest.API_KEY:
            raise Malformed(f"{api.request.name} version {head.version} is not one of {api.versions}")
        response = ApiVersionsResponse(version=0, error_code=Code.UNSUPPORTED_VERSION, api_keys=self._api_keys())
        return answered(response, head.correlation_id)

    async def _versions(self, asked: Asked) -> Any:
        return ApiVersionsResponse(version=asked.version, error_code=Code.NONE, api_keys=self._api_keys())

    def _api_keys(self) -> list[Any]:
        return [
            ApiVersionsResponse.ApiVersion(api_key=key, min_version=api.versions[0], max_version=api.versions[1])
            for key, api in sorted(self._apis.items())
        ]
