import pytest

from tunesmith.spec.lifecycle import ACTIVE, STOPPING, TERMINAL, TRANSITIONS, State, Trigger, after


@pytest.mark.parametrize("state", sorted(TERMINAL))
@pytest.mark.parametrize("trigger", list(Trigger))
def test_nothing_leads_out_of_a_terminal_state(state, trigger):
    assert after(state, trigger) is None


@pytest.mark.parametrize("state", sorted(set(State) - TERMINAL))
def test_every_living_job_can_be_cancelled_except_when_it_already_is(state):
    without_a_worker = dict.fromkeys((State.VALIDATING, State.QUEUED, State.PAUSED), State.CANCELLED)
    expected = {**without_a_worker, State.CANCELLING: None}
    assert after(state, Trigger.CANCEL) is expected.get(state, State.CANCELLING)


def test_a_job_told_to_be_cancelled_ends_in_nothing_else():
    reached = {target for (state, _), target in TRANSITIONS.items() if state is State.CANCELLING}
    assert reached == {State.CANCELLED}


@pytest.mark.parametrize("state", sorted(ACTIVE))
def test_a_job_with_a_worker_can_lose_it(state):
    trigger = Trigger.STOPPED if state in STOPPING else Trigger.LOST
    assert after(state, trigger) is not None


@pytest.mark.parametrize("state", sorted(set(State) - TERMINAL))
def test_every_living_job_can_reach_an_end(state):
    reached, frontier = {state}, [state]
    while frontier:
        current = frontier.pop()
        following = {target for (source, _), target in TRANSITIONS.items() if source is current} - reached
        reached |= following
        frontier.extend(following)
    assert reached & TERMINAL


def test_every_state_can_be_reached_by_a_job_that_lacks_something_at_first():
    reached, frontier = {State.VALIDATING}, [State.VALIDATING]
    while frontier:
        current = frontier.pop()
        following = {target for (source, _), target in TRANSITIONS.items() if source is current} - reached
        reached |= following
        frontier.extend(following)
    assert reached == set(State)
