"""The mask receipt of a job, as its workers leave it."""

import pytest

from tunesmith.runners import Exit
from tunesmith.spec.errors import JobNotFoundError, JobStateError
from tunesmith.spec.receipt import Lines, Piece, Receipt, ReceiptRow

NONE = Lines(count=0, lines=())
RECEIPT = Receipt(
    rows=1,
    tokens=4,
    trained_tokens=2,
    trained_share=0.5,
    turns=1,
    ended_turns=1,
    ends={"<|im_end|>": 1},
    stops=("<|im_end|>",),
    max_length=64,
    dropped=Lines(count=1, lines=(2,)),
    cut=NONE,
    untrained=NONE,
    findings={"text_left_out": 1},
    lengths=((4, 1),),
    samples=(
        ReceiptRow(
            line=1,
            tokens=4,
            trained_tokens=2,
            pieces=(Piece(text="Hi. ", trained=False), Piece(text="Yes.<|im_end|>", trained=True)),
        ),
    ),
)


def test_a_job_has_the_receipt_that_its_worker_wrote(house):
    job = house.submit()
    house.tick()
    house.runner.runs[-1].write_receipt(RECEIPT)
    assert house.jobs.receipt(job.id) == RECEIPT


def test_a_later_attempt_that_has_none_yet_does_not_hide_the_earlier_one(house, started):
    job = house.submit()
    house.tick()
    house.runner.report(started)
    house.runner.runs[-1].write_receipt(RECEIPT)
    house.runner.end(Exit(signal=9))
    house.tick()
    house.tick()
    assert len(house.runner.runs) == 2
    assert house.jobs.receipt(job.id) == RECEIPT


def test_a_job_that_waits_has_no_receipt(house):
    with pytest.raises(JobStateError, match="queued and has no receipt"):
        house.jobs.receipt(house.submit().id)


def test_an_unknown_job_has_no_receipt(house):
    with pytest.raises(JobNotFoundError):
        house.jobs.receipt("0" * 32)


def test_the_native_dialect_serves_it(house, call):
    job = house.submit()
    assert call(f"/jobs/{job.id}/receipt").json()["error"]["code"] == "job_state"
    house.tick()
    house.runner.runs[-1].write_receipt(RECEIPT)
    answer = call(f"/jobs/{job.id}/receipt")
    assert (answer.status_code, answer.json()) == (200, RECEIPT.model_dump(mode="json"))
    assert call("/jobs/nothing/receipt").status_code == 404
