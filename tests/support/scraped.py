"""What a process shows at /metrics."""

import urllib.request

from prometheus_client.parser import text_string_to_metric_families


def value(url: str, name: str, **labels: str) -> float:
    """A sample of what a process shows, added up over the labels that are not named; 0 when there is none."""
    try:
        with urllib.request.urlopen(url + "/metrics", timeout=20) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
    except OSError:
        return 0.0
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    return sum(one.value for one in samples if labels.items() <= one.labels.items())
