"""What a card tells of a job, which a push may show to everybody."""

import json

from stored_jobs import job_spec
from tunesmith.spec.job import SamplingSpec, Turn
from tunesmith.spec.reading import Reading
from tunesmith.training.card import described


def test_prompts_are_for_their_owner_alone() -> None:
    asked = ("a private question", (Turn(role="user", content="a private turn"),))
    spec = job_spec(sampling=SamplingSpec(prompts=asked, every=50))
    reading = Reading(system="a private order", template="a private frame: {q}", columns={"completion": "a"})
    told = described(spec.model_copy(update={"data": spec.data.model_copy(update={"reading": reading})}))
    assert "private" not in json.dumps(told)
    assert told["sampling"]["every"] == 50  # type: ignore[index]
    assert told["data"]["reading"] == {"format": None, "columns": {"completion": "a"}}  # type: ignore[index]


def test_a_job_without_prompts_is_told_as_it_is() -> None:
    assert described(job_spec())["sampling"] is None
