"""The acts in which something breaks or changes while simulated shoppers go on: kill -9, a flipped bit, swaps."""

import json
import time
from dataclasses import replace
from typing import Any, Final

from headrace.local.doors import Refused
from headrace.streams.generations import group_of
from headrace.streams.log_extent import committed_offsets, log_extent
from headrace.streams.topics import EVENTS, FEATURES
from headrace.tour import acts, bundles
from headrace.tour.doors import Asked
from headrace.tour.flow import listed
from headrace.tour.load import Load, split
from headrace.tour.playing import WAIT_S, Playing

ALONE: Final = 1 / 30
"""Share of the searches that are served while nobody consumes."""
SLOW_S: Final = 0.1
"""Between two searches while a consumer comes back: simulated weeks should not all pass then."""
RATE: Final = 25.0
SWAP_S: Final = 1.2
NEAR_S: Final = 0.3


def kill_consumer(playing: Playing) -> acts.Killed:
    """SIGKILL in the middle of the flow, some lists without a consumer, a new one, until it has caught up."""
    flow, log = playing.flow, playing.log
    at_search = flow.done
    pid = playing.line.kill("consume")
    killed_s = time.monotonic()
    alone = max(1, round(ALONE * playing.shoppers.model.searches))
    playing.flow_until(at_search + alone, "nobody consumes")
    playing.line.restart("consume")
    log.settle(wait=True)
    missed = log.unseen()
    while missed & log.unseen():
        if time.monotonic() - killed_s > WAIT_S:
            raise Refused(f"the consumer did not catch up within {WAIT_S:.0f} s: see consume.log")
        if flow.done < playing.shoppers.model.searches:
            playing.flow_until(flow.done + 1, "the consumer comes back")
        time.sleep(SLOW_S)
        log.collect()
    return acts.Killed(pid or 0, at_search, alone, time.monotonic() - killed_s, 0, "", "")


def compare(playing: Playing, killed: acts.Killed) -> acts.Killed:
    """Waits until everything is consumed; then both digests."""
    line, partitions = playing.line, range(playing.line.partitions)
    group = group_of(line.namespace, playing.log.keys.generation)
    events = log_extent(line.bootstrap, EVENTS, len(partitions))

    def consumed() -> bool:
        committed = committed_offsets(line.bootstrap, group, EVENTS, len(partitions))
        return all(committed.get(part, 0) >= events[part][1] for part in partitions)

    playing.until(consumed, "the consumer reads to the end", "consume.log")
    playing.stage.doing("folding all events again in memory")
    file = line.folder / "digest.json"
    flags = ("--bootstrap-servers", line.bootstrap, "--redis-url", line.redis_url, "--namespace", line.namespace)
    line.run("inspect", "digest", "--memory", "--json", str(file), *flags, codes=(0, 1))
    found = json.loads(file.read_text())
    count = sum(end - begin for begin, end in events.values())
    return replace(killed, events=count, redis=found["digest"], memory=found["memory"])


def refuse_flipped(playing: Playing) -> acts.Refused:
    """A bundle with one wrong bit becomes the champion while requests run; then the good one again."""
    settle_learner(playing)
    repository, good = playing.line.repository, str(playing.doors.ready()["model"])
    with _load(playing) as load:
        _rest(playing, 0.5, "requests run")
        version, flipped = bundles.flipped_bundle(repository)
        bundles.point_at(repository, version)

        def decided() -> bool:
            said = playing.doors.ready()
            return said["model"] == version or _refusal(said, version) != ""

        playing.until(decided, "a bundle with a flipped bit is the champion", "serve.log")
        reason = _refusal(playing.doors.ready(), version)
        _rest(playing, 1.5, "it stays refused while requests run")
        bundles.republish(repository, good)
        playing.until(lambda: playing.doors.ready()["refused"] is None, "the good one again", "serve.log")
        _rest(playing, 0.3, "requests run")
    return acts.Refused(flipped, reason, load.versions == [good], load.requests)


def swap(playing: Playing) -> acts.Swaps:
    """Back through the heads that were learned and forward again, while requests run."""
    repository = playing.line.repository
    versions = bundles.learned(repository)
    if len(versions) < acts.HEADS:
        return acts.Swaps(0, acts.Requests(0, ()), (), ())
    earlier = versions[-acts.SWAPS : -1]
    order = [*(earlier * acts.SWAPS)[: acts.SWAPS - 1], versions[-1]]
    moved = []
    with _load(playing) as load:
        _rest(playing, SWAP_S, "requests run")
        for number, version in enumerate(order, start=1):
            began_s = time.monotonic()
            bundles.republish(repository, version)
            playing.doors.wait_for_model(version)
            moved.append((began_s, time.monotonic()))
            _rest(playing, began_s + SWAP_S - time.monotonic(), f"swap {number} of {acts.SWAPS}")
    near, away = split(load, moved, NEAR_S)
    # Answers overtake each other, so how often they change their version is not how often it was changed.
    served = sum(version in load.versions for version in order)
    return acts.Swaps(served, load.requests, tuple(near), tuple(away))


def settle_learner(playing: Playing) -> None:
    """Returns when the learner has learned from everything there is, so that it publishes nothing more."""
    line, count = playing.line, playing.line.partitions

    def logged() -> bool:
        extent = log_extent(line.bootstrap, FEATURES, count)
        return sum(end for _, end in extent.values()) >= playing.flow.fold.served

    playing.until(logged, "the feature log is written", "serve.log")
    ends = {
        f"{topic}/{part}": end
        for topic in (EVENTS, FEATURES)
        for part, (_, end) in log_extent(line.bootstrap, topic, count).items()
    }
    version = playing.doors.wait_for_learner(ends)["version"]
    playing.doors.wait_for_model(str(version))


def _refusal(said: Any, version: str) -> str:
    refused = said["refused"]
    return str(refused["reason"]) if refused is not None and refused["version"] == version else ""


def _load(playing: Playing) -> Load:
    """Requests of shoppers who are known; every eighth one asks for something nobody has asked for.

    That takes a cross-encoder some 20 ms of a core, so more of them would be a test of the machine.
    """
    bodies = []
    for number in range(200):
        search = playing.shoppers.search(number)
        text = search.text if number % 8 else f"{search.text} {number}"
        bodies.append(Asked(text, listed(playing.shop, search.text), playing.now_ms, search.client_id).body())
    return Load(playing.line.serve_url, bodies, RATE)


def _rest(playing: Playing, seconds: float, what: str) -> None:
    until_s = time.monotonic() + seconds
    while (left_s := until_s - time.monotonic()) > 0:
        playing.stage.doing(what)
        time.sleep(min(left_s, 0.1))
