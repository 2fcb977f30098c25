"""Data sets and models of a Hugging Face hub, by name and revision."""

from tunesmith.sources import Limits
from tunesmith.sources.hub.datasets import HubDatasets


def create(limits: Limits, hub_endpoint: str | None) -> HubDatasets:
    """The source of data sets on the hub at an address; none means that there is no hub."""
    return HubDatasets(limits, hub_endpoint)
