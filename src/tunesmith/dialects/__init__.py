"""Dialects: one foreign API each. One module or folder a dialect; its name is the key.

A dialect offers:

- `PREFIXES`: the paths it owns, longest match wins;
- `routes(services) -> APIRouter`: its endpoints, with full paths and without trailing slashes;
- `render_error(error) -> tuple[int, dict]`: status and body of an error in the dialect's own shape;
- `render_job(job, services) -> dict`: any job, whoever made it, in the dialect's own words.

`docs/dialects/` describes each of them; `CONTRIBUTING.md` walks through adding one.
"""

from dataclasses import dataclass

from tunesmith.assets.datasets import Datasets
from tunesmith.assets.files import Files
from tunesmith.assets.models import BaseModels, ProducedModels
from tunesmith.jobs.service import Jobs
from tunesmith.storage import Storage


@dataclass(frozen=True)
class Services:
    """What dialects are given."""

    jobs: Jobs
    files: Files
    datasets: Datasets
    base_models: BaseModels
    produced_models: ProducedModels
    storage: Storage
    max_upload_bytes: int
