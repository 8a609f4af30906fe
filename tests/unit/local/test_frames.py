"""Requests as bytes: whatever comes is a request or is refused as none."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.protocol.admin import CreateTopicsRequest, DescribeConfigsRequest
from kafka.protocol.consumer import FetchRequest, JoinGroupRequest, OffsetCommitRequest
from kafka.protocol.metadata import ApiVersionsRequest, FindCoordinatorRequest, MetadataRequest
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
