"""The settings of topics: DescribeConfigs, AlterConfigs and IncrementalAlterConfigs."""

from collections.abc import Mapping
from typing import Any

from kafka.protocol.admin import (
    AlterConfigsRequest,
    AlterConfigsResponse,
    DescribeConfigsRequest,
    DescribeConfigsResponse,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)

from headrace.local.broker.api import Api, Asked
from headrace.local.broker.catalogue import Catalogue
from headrace.local.broker.codes import Code, Refusal
from headrace.local.broker.topic_requests import NODE_ID
from headrace.local.broker.topics import SETTINGS, Kind, Topic

_TOPIC, _BROKER = 2, 4  # kinds of resources
_SET, _DELETE, _APPEND, _SUBTRACT = 0, 1, 2, 3  # what an incremental change does
_OF_TOPIC, _OF_BROKER, _DEFAULT = 1, 4, 5  # where a value comes from

# What the broker says of itself; none of it can be changed.
_BROKER_SETTINGS: Mapping[str, tuple[Kind, str]] = {
    "auto.create.topics.enable": (Kind.BOOLEAN, "false"),
    "broker.id": (Kind.INT, str(NODE_ID)),
    "default.replication.factor": (Kind.INT, "1"),
    "delete.topic.enable": (Kind.BOOLEAN, "true"),
    "group.max.session.timeout.ms": (Kind.INT, "1800000"),
    "group.min.session.timeout.ms": (Kind.INT, "1000"),
    "log.retention.ms": (Kind.LONG, "-1"),
    "message.max.bytes": (Kind.INT, SETTINGS["max.message.bytes"].default),
    "min.insync.replicas": (Kind.INT, "1"),
    "node.id": (Kind.INT, str(NODE_ID)),
    "num.partitions": (Kind.INT, "1"),
}


class SettingRequests:
    """Answers what is asked about settings."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self.apis = (
            Api(DescribeConfigsRequest, (1, 4), self._describe),
            Api(AlterConfigsRequest, (0, 2), self._alter),
            Api(IncrementalAlterConfigsRequest, (0, 1), self._alter_some),
        )

    async def _describe(self, asked: Asked) -> Any:
        results = []
        for one in asked.body.resources:
            code, reason, configs = Code.NONE, None, []
            try:
                configs = self._settings(one.resource_type, one.resource_name, asked.body.include_synonyms)
            except Refusal as refusal:
                code, reason = refusal.code, refusal.reason
            wanted = one.configuration_keys
            results.append(
                DescribeConfigsResponse.DescribeConfigsResult(
                    error_code=code,
                    error_message=reason,
                    resource_type=one.resource_type,
                    resource_name=one.resource_name,
                    configs=[config for config in configs if not wanted or config.name in wanted],
                )
            )
        return DescribeConfigsResponse(version=asked.version, results=results)

    def _settings(self, resource_type: int, name: str, synonyms: bool) -> list[Any]:
        if resource_type == _BROKER and name in ("", str(NODE_ID)):
            facts = [(key, value, kind, _OF_BROKER) for key, (kind, value) in _BROKER_SETTINGS.items()]
        elif resource_type == _TOPIC:
            topic = self._catalogue.topic(name)
            facts = [
                (key, topic.setting(key), setting.kind, _OF_TOPIC if key in topic.settings else _DEFAULT)
                for key, setting in SETTINGS.items()
            ]
        else:
            raise Refusal(Code.INVALID_REQUEST, "this broker has settings of topics, and of broker 1 to look at")
        return [_described(*fact, synonyms) for fact in facts]

    async def _alter(self, asked: Asked) -> Any:
        """Sets all of a topic's settings: those that are not named go back to their default."""
        answers = []
        for one in asked.body.resources:
            wanted = {config.name: config.value for config in one.configs}
            refused = self._set(one, lambda _, wanted=wanted: wanted, asked.body.validate_only)
            answers.append(_altered(AlterConfigsResponse, one, refused))
        return AlterConfigsResponse(version=asked.version, responses=answers)

    async def _alter_some(self, asked: Asked) -> Any:
        answers = []
        for one in asked.body.resources:
            refused = self._set(one, lambda topic, one=one: _changed(topic, one.configs), asked.body.validate_only)
            answers.append(_altered(IncrementalAlterConfigsResponse, one, refused))
        return IncrementalAlterConfigsResponse(version=asked.version, responses=answers)

    def _set(self, one: Any, settings_of: Any, only_checked: bool) -> Refusal | None:
        try:
            if one.resource_type != _TOPIC:
                raise Refusal(Code.INVALID_REQUEST, "only the settings of topics can be changed here")
            topic = self._catalogue.topic(one.resource_name)
            topic = topic.with_settings(settings_of(topic))
            if not only_checked:
                self._catalogue.put(topic)
        except Refusal as refusal:
            return refusal
        return None


def _changed(topic: Topic, changes: Any) -> dict[str, str | None]:
    settings: dict[str, str | None] = dict(topic.settings)
    for change in changes:
        if change.name not in SETTINGS:
            raise Refusal(Code.INVALID_CONFIG, f"Unknown topic config name: {change.name}")
        if change.config_operation == _DELETE:
            settings.pop(change.name, None)
        elif change.config_operation == _SET:
            settings[change.name] = change.value
        elif change.config_operation in (_APPEND, _SUBTRACT) and SETTINGS[change.name].kind == Kind.LIST:
            had = [word for word in topic.setting(change.name).split(",") if word]
            given = [word for word in (change.value or "").split(",") if word]
            kept = [word for word in had if word not in given]
            settings[change.name] = ",".join(kept + given if change.config_operation == _APPEND else kept)
        else:
            raise Refusal(Code.INVALID_CONFIG, f"Config value append is not allowed for config key: {change.name}")
    return settings


def _described(name: str, value: str, kind: Kind, source: int, synonyms: bool) -> Any:
    answer = DescribeConfigsResponse.DescribeConfigsResult.DescribeConfigsResourceResult
    said = [answer.DescribeConfigsSynonym(name=name, value=value, source=source)] if synonyms else []
    return answer(
        name=name,
        value=value,
        read_only=source == _OF_BROKER,
        is_default=source == _DEFAULT,
        config_source=source,
        is_sensitive=False,
        synonyms=said,
        config_type=kind,
        documentation=None,
    )


def _altered(response: Any, one: Any, refused: Refusal | None) -> Any:
    return response.AlterConfigsResourceResponse(
        error_code=refused.code if refused else Code.NONE,
        error_message=refused.reason if refused else None,
        resource_type=one.resource_type,
        resource_name=one.resource_name,
    )
