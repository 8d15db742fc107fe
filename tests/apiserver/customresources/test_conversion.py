import asyncio

import pytest

from peavine.apiserver.customresources.conversion import Converter
from peavine.machinery.errors import ApiError

DEFINITION = {
    "metadata": {"name": "things.example.com"},
    "spec": {"group": "example.com", "conversion": {"strategy": "Webhook", "webhook": {"clientConfig": {"url": "u"}}}},
}


class Caller:
    """Answers as a webhook that counts how often it is asked, and for how many objects."""

    def __init__(self, **wrong):
        self.asked, self.wrong = [], wrong

    def now(self, client, review):
        request = review["request"]
        self.asked.append(len(request["objects"]))
        converted = [
            {**o, "apiVersion": request["desiredAPIVersion"], "metadata": {"labels": {"new": "1"}, "name": "stolen"}}
            for o in request["objects"]
        ]
        response = {"uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": converted}
        return {"response": {**response, **self.wrong}}

    async def soon(self, client, review):
        return self.now(client, review)


def thing(number):
    return {
        "apiVersion": "example.com/v1",
        "kind": "Thing",
        "metadata": {"name": f"t{number}", "uid": f"u{number}", "resourceVersion": "5"},
    }


def test_many_objects_are_asked_for_at_once_and_then_known():
    caller = Caller()
    converter = Converter(DEFINITION, caller)
    asyncio.run(converter.prefetch([thing(n) for n in range(600)], "v1", "v2"))
    assert caller.asked == [500, 100]
    converted = converter.convert(thing(7), "v1", "v2")
    assert (converted["apiVersion"], caller.asked) == ("example.com/v2", [500, 100])
    asyncio.run(converter.prefetch([thing(7)], "v1", "v2"))
    assert caller.asked == [500, 100]


def test_a_webhook_may_change_labels_and_annotations_of_metadata_and_nothing_else():
    converted = Converter(DEFINITION, Caller()).convert(thing(1), "v1", "v2")
    assert converted["metadata"] == {"name": "t1", "uid": "u1", "resourceVersion": "5", "labels": {"new": "1"}}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"result": {"status": "Failure", "message": "no way"}}, "no way"),
        ({"uid": "other"}, "does not fit the request"),
        ({"convertedObjects": []}, "does not fit the request"),
        ({"convertedObjects": [{"apiVersion": "example.com/v9", "kind": "Thing"}]}, "expected example.com/v2"),
    ],
)
def test_an_answer_that_does_not_fit_is_an_error(wrong, says):
    with pytest.raises(ApiError, match=f"conversion webhook for things.example.com failed: .*{says}"):
        Converter(DEFINITION, Caller(**wrong)).convert(thing(1), "v1", "v2")
