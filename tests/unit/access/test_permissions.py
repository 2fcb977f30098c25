import pytest

from tunesmith.access.caller import LOCAL, Caller, Role
from tunesmith.access.permissions import ALLOWED, Action, require
from tunesmith.spec.errors import ForbiddenError, RoleError

OWNERS = {
    Action.MANAGE_KEYS,
    Action.MANAGE_MEMBERS,
    Action.MANAGE_PROJECTS,
    Action.MANAGE_SECRETS,
    Action.MANAGE_WEBHOOKS,
}


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("action", Action)
def test_viewers_read_members_work_and_owners_manage(role, action):
    caller = Caller(org="acme", user="ada", role=role)
    allowed = role is Role.OWNER or action is Action.READ or (role is Role.MEMBER and action not in OWNERS)
    if allowed:
        require(caller, action)
        return
    with pytest.raises(RoleError) as refused:
        require(caller, action)
    assert isinstance(refused.value, ForbiddenError)
    assert refused.value.code == "role"
    assert action.value in refused.value.message
    assert role.value in refused.value.message


def test_every_action_is_decided():
    assert set(ALLOWED) == set(Action)


@pytest.mark.parametrize("action", Action)
def test_on_an_open_server_everybody_may_do_everything(action):
    require(LOCAL, action)
