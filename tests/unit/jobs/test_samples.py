"""What the model answered during training, and what was done about too little memory, as the server tells it."""

from itertools import pairwise

from tunesmith.runners import Exit
from tunesmith.spec import events
from tunesmith.spec.events import Portion


def sampled(at, step, number=0, text=None):
    text = f"answer {number} of step {step}" if text is None else text
    base = None if step == 0 else f"base {number}"
    return events.Sampled(
        at=at, step=step, number=number, prompt="Who?\n", text=text, base=base, tokens=3, seconds=0.25
    )


def run_to_start(house, started):
    job = house.submit()
    house.tick()
    house.runner.report(started)
    return job


def test_answers_are_listed_by_step_and_prompt_with_the_base_models_beside(house, started, call):
    job = run_to_start(house, started)
    house.runner.report(*(sampled(started.at, step, number) for step in (0, 5) for number in (0, 1)))
    house.tick()
    answer = call(f"/jobs/{job.id}/samples").json()
    assert answer["has_more"] is False
    assert [(each["step"], each["number"], each["text"], each["base"]) for each in answer["data"]] == [
        (0, 0, "answer 0 of step 0", None),
        (0, 1, "answer 1 of step 0", None),
        (5, 0, "answer 0 of step 5", "base 0"),
        (5, 1, "answer 1 of step 5", "base 1"),
    ]
    assert answer["data"][0] | {"id": "", "at": 0} == {
        "id": "", "attempt": 1, "at": 0, "step": 0, "number": 0, "prompt": "Who?\n", "text": "answer 0 of step 0",
        "file": None, "seed": None, "base": None, "tokens": 3, "seconds": 0.25,
    }  # fmt: skip


def test_answers_come_in_pages(house, started, call):
    job = run_to_start(house, started)
    house.runner.report(*(sampled(started.at, step) for step in range(5)))
    house.tick()
    seen, after = [], ""
    while True:
        part = call(f"/jobs/{job.id}/samples?limit=2{after}").json()
        seen += [each["step"] for each in part["data"]]
        if not part["has_more"]:
            break
        after = f"&after={part['data'][-1]['id']}"
    assert seen == [0, 1, 2, 3, 4]


def test_of_steps_that_were_run_again_the_last_answer_counts_and_pages_go_on(house, started, call):
    job = run_to_start(house, started)
    house.runner.report(sampled(started.at, 0), sampled(started.at, 5, text="lost"))
    house.tick()
    lost = call(f"/jobs/{job.id}/samples").json()["data"][-1]["id"]
    house.runner.end(Exit(signal=9))
    house.tick()
    house.runner.report(started, sampled(started.at, 5, text="found"), sampled(started.at, 10))
    house.tick()
    assert [each["text"] for each in call(f"/jobs/{job.id}/samples").json()["data"]] == [
        "answer 0 of step 0", "found", "answer 0 of step 10"
    ]  # fmt: skip
    rest = call(f"/jobs/{job.id}/samples?after={lost}").json()["data"]
    assert [each["step"] for each in rest] == [10]


def test_a_job_that_was_asked_nothing_has_an_empty_list(house, call):
    assert call(f"/jobs/{house.submit().id}/samples").json() == {"data": [], "has_more": False}


def test_a_sample_or_job_that_does_not_exist_is_named(house, call):
    answer = call(f"/jobs/{house.submit().id}/samples?after=nothing")
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "after")
    assert call("/jobs/nothing/samples").status_code == 404


def test_an_answer_is_told_in_one_short_line(house, started):
    job = run_to_start(house, started)
    house.runner.report(sampled(started.at, 0, text="Hi.\n" * 100), sampled(started.at, 4, text=""))
    house.tick()
    first, second = house.messages(job)[-2:]
    assert first.startswith("Step 0: to 'Who?' the base model answers 'Hi. Hi.")
    assert len(first) < 260
    assert second == "Step 4: to 'Who?' the model answers ''."


def test_a_picture_is_named_by_its_file(house, started, call):
    job = run_to_start(house, started)
    picture = {"text": None, "file": "samples/step-4-0.png", "tokens": None}
    house.runner.report(sampled(started.at, 4).model_copy(update=picture))
    house.tick()
    assert house.messages(job)[-1] == "Step 4: of 'Who?' the model draws samples/step-4-0.png."
    assert call(f"/jobs/{job.id}/samples").json()["data"][0]["file"] == "samples/step-4-0.png"


def test_smaller_portions_are_told_as_a_warning(house, started):
    job = run_to_start(house, started)
    portions = [
        Portion(micro_batch_size=4, token_budget=64, recomputing=False),
        Portion(micro_batch_size=2, token_budget=64, recomputing=False),
        Portion(micro_batch_size=2, token_budget=32, recomputing=False),
        Portion(micro_batch_size=2, token_budget=32, recomputing=True),
    ]
    for before, after in pairwise(portions):
        house.runner.report(
            events.Healed(
                at=started.at, step=7, phase="backward", again_from=5, before=before, after=after, lines=(3,), tokens=60
            )
        )
    house.tick()
    healed = [event for event in house.jobs.events(job.id) if event.kind == "healed"]
    assert {event.level for event in healed} == {"warn"}
    for event, words in zip(healed, ("2 sequences instead of 4", "32 tokens instead of 64", "again"), strict=True):
        assert event.message.startswith("Step 7: memory did not suffice (backward). From step 5 on, ")
        assert words in event.message
    assert healed[0].data["lines"] == [3]


# --- workers that the system ends ------------------------------------------------------------------------------------

KILLED = Exit(signal=9, out_of_memory=True)


def test_a_worker_that_the_system_ended_for_want_of_memory_is_told_as_such(house, started, metrics):
    job = run_to_start(house, started)
    house.runner.report(metrics(1).model_copy(update={"memory_bytes": 3 * 2**30}))
    house.runner.end(KILLED)
    house.tick()
    [told] = [message for message in house.messages(job) if "was lost" in message]
    assert "memory ran out" in told
    assert "at step 1 it had reported a peak of 3.2 GB" in told
    assert house.jobs.get(job.id).state == "starting"


def test_three_of_them_fail_the_job_with_out_of_memory(house, started):
    job = run_to_start(house, started)
    for _ in range(3):
        house.runner.end(KILLED)
        house.tick()
    job = house.jobs.get(job.id)
    assert (job.state, job.error.code) == ("failed", "out_of_memory")
    assert "3 times" in job.error.message
    assert "`micro_batch_size`" in job.error.hint
