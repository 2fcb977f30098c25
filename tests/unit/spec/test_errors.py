import pickle

import pytest

from tunesmith.spec.errors import ERRORS, InvalidRequestError, TunesmithError


def test_codes_are_unique():
    def tree(kind):
        return [kind, *(each for child in kind.__subclasses__() for each in tree(child))]

    kinds = [kind for kind in tree(TunesmithError)[1:] if kind.__module__ == TunesmithError.__module__]
    assert len({kind.code for kind in kinds}) == len(kinds)


@pytest.mark.parametrize("kind", ERRORS.values(), ids=lambda kind: kind.code)
def test_errors_survive_pickling_and_json(kind):
    error = kind("what", param="a.b", hint="do")
    assert pickle.loads(pickle.dumps(error)).info == error.info
    assert type(error.info).model_validate_json(error.info.model_dump_json()) == error.info


def test_a_sentence_holds_message_and_hint():
    assert InvalidRequestError("Wrong.", hint="Do right.").info.sentence() == "Wrong. Do right."
