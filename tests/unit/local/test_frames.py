"""Requests as bytes: whatever comes is a request or is refused as none."""

import contextlib
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.protocol.admin import CreateTopicsRequest, DescribeConfigsRequest, DescribeGroupsRequest
from kafka.protocol.consumer import FetchRequest, JoinGroupRequest, OffsetCommitRequest
from kafka.protocol.metadata import ApiVersionsRequest, ApiVersionsResponse, FindCoordinatorRequest, MetadataRequest
from kafka.protocol.producer import ProduceRequest

from headrace.local.broker.frames import Head, Malformed, body_of, head_of

REQUESTS = [
    ApiVersionsRequest,
    CreateTopicsRequest,
    DescribeConfigsRequest,
    FetchRequest,
    FindCoordinatorRequest,
    JoinGroupRequest,
    MetadataRequest,
    OffsetCommitRequest,
    ProduceRequest,
]


@given(st.sampled_from(REQUESTS), st.integers(0, 13), st.binary(max_size=300))
def test_any_bytes_are_a_request_or_malformed(request: Any, version: int, frame: bytes) -> None:
    with contextlib.suppress(Malformed):
        body_of(frame, Head(0, min(version, request.max_version), 1, "", 0), request)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_head_or_malformed(frame: bytes) -> None:
    with contextlib.suppress(Malformed):
        assert head_of(frame).size_bytes <= len(frame)


@pytest.mark.parametrize("version", range(3, 14))
def test_what_a_client_writes_is_read(version: int) -> None:
    part = ProduceRequest.TopicProduceData.PartitionProduceData(index=4, records=b"r")
    topic = ProduceRequest.TopicProduceData(name="t", partition_data=[part])
    written = ProduceRequest(version=version, acks=-1, timeout_ms=9, topic_data=[topic])
    written.with_header(correlation_id=77, client_id="me")
    frame = written.encode(header=True)
    head = head_of(frame)
    assert (head.api_key, head.version, head.correlation_id, head.client_id) == (0, version, 77, "me")
    body = body_of(frame, head, ProduceRequest)
    assert (body.acks, body.timeout_ms) == (-1, 9)
    assert [(part.index, part.records) for topic in body.topic_data for part in topic.partition_data] == [(4, b"r")]


def body(request: Any, version: int, data: bytes) -> Any:
    return body_of(data, Head(request.API_KEY, version, 1, "", 0), request)


NO_TAGS, ONE_NAME = b"\x00", b"\x02a"
QUICK_S = 5.0


@pytest.mark.parametrize("number_bytes", [6, 1 << 20])
def test_a_number_without_an_end_is_refused_at_once(number_bytes: int) -> None:
    began_s = time.monotonic()
    with pytest.raises(Malformed):
        body(DescribeGroupsRequest, 5, NO_TAGS + b"\xff" * number_bytes + b"\x01" * 9)
    assert time.monotonic() - began_s < QUICK_S


@pytest.mark.parametrize(
    ("request_", "version", "data"),
    [
        (DescribeGroupsRequest, 5, NO_TAGS + b"\xff\xff\xff\xff\x0f"),
        (DescribeGroupsRequest, 4, b"\x7f\xff\xff\xff"),
        (MetadataRequest, 1, b"\x7f\xff\xff\xff" + b"\x00\x01a"),
        (ProduceRequest, 7, b"\xff\xff" + b"\x00\x01" + b"\x00" * 4 + b"\x7f\xff\xff\xff"),
    ],
)
def test_a_list_said_to_be_endless_is_refused_at_once(request_: Any, version: int, data: bytes) -> None:
    began_s = time.monotonic()
    with pytest.raises(Malformed):
        body(request_, version, data)
    assert time.monotonic() - began_s < QUICK_S


def test_a_reason_is_short() -> None:
    with pytest.raises(Malformed, match="UnicodeDecodeError") as refused:
        body(DescribeGroupsRequest, 5, NO_TAGS + b"\x02" + b"\x81\x80\x40" + b"\xff" * (1 << 20) + NO_TAGS)
    assert len(str(refused.value)) < 300


def test_many_tagged_fields_are_skipped_in_time() -> None:
    count = 60_000
    topic = bytes(16) + ONE_NAME + b"\x01\x05\x02??"
    data = NO_TAGS + b"\xe1\xd4\x03" + topic * count + b"\x00\x01\x00"
    began_s = time.monotonic()
    asked = body(MetadataRequest, 12, data)
    assert time.monotonic() - began_s < QUICK_S
    assert len(asked.topics) == count
    assert (asked.topics[-1].name, asked.include_topic_authorized_operations) == ("a", True)


def test_clients_in_this_process_read_as_before() -> None:
    body(ApiVersionsRequest, 3, NO_TAGS + ONE_NAME + ONE_NAME + NO_TAGS)
    features = b"\x01\x00\x05" + b"\x02" + ONE_NAME + b"\x00\x01\x00\x02" + b"\x00"
    answer = ApiVersionsResponse.decode(b"\x00\x00" + b"\x01" + b"\x00" * 4 + features, version=3)
    assert [one.name for one in answer.supported_features] == ["a"]
