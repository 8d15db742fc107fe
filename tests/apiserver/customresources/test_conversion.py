import asyncio

import pytest

from peavine.apiserver.customresources.conversion import Converter
from peavine.apiserver.registry.conversions import Unconverted, settled
from peavine.machinery.errors import ApiError

DEFINITION = {
    "metadata": {"name": "things.example.com"},
    "spec": {
        "group": "example.com",
        "names": {"kind": "Thing"},
        "conversion": {"strategy": "Webhook", "webhook": {"clientConfig": {"url": "u"}}},
    },
}


class Webhook:
    """Answers as a webhook that counts how often it is asked, and for how many objects."""

    def __init__(self, more=None, **wrong):
        self.asked, self.more, self.wrong = [], more or {}, wrong

    async def __call__(self, client, review):
        request = review["request"]
        self.asked.append(len(request["objects"]))
        converted = [
            {**o, "apiVersion": request["desiredAPIVersion"], **self.more.get(o["metadata"]["name"], {})}
            for o in request["objects"]
        ]
        response = {"uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": converted}
        return {"kind": review["kind"], "apiVersion": review["apiVersion"], "response": {**response, **self.wrong}}


def thing(number, **more):
    meta = {"name": f"t{number}", "uid": f"u{number}", "resourceVersion": "5", "labels": {"old": "1"}}
    return {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {**meta, **more}}


def converted(webhook, obj):
    converter = Converter(DEFINITION, webhook)
    return asyncio.run(settled(lambda: converter.convert(obj, "v1", "v2")))


def test_many_objects_are_asked_for_at_once_and_then_known():
    webhook = Webhook()
    converter = Converter(DEFINITION, webhook)
    with pytest.raises(Unconverted):
        converter.convert(thing(7), "v1", "v2")
    asyncio.run(converter.prefetch([thing(n) for n in range(600)], "v1", "v2"))
    assert webhook.asked == [500, 100]
    assert converter.convert(thing(7), "v1", "v2")["apiVersion"] == "example.com/v2"
    asyncio.run(converter.prefetch([thing(7)], "v1", "v2"))
    assert webhook.asked == [500, 100]


def test_two_contents_of_one_revision_are_two_conversions():
    webhook = Webhook()
    converter = Converter(DEFINITION, webhook)
    for colour in ("red", "blue"):
        obj = {**thing(1), "spec": {"colour": colour}}
        found = asyncio.run(settled(lambda obj=obj: converter.convert(obj, "v1", "v2")))
        assert found["spec"]["colour"] == colour
    assert webhook.asked == [1, 1]


def test_a_webhook_may_change_labels_and_annotations_of_metadata_and_nothing_else():
    meta = {"name": "t1", "uid": "u1", "labels": {"new": "1"}, "finalizers": ["stolen"]}
    assert converted(Webhook({"t1": {"metadata": meta}}), thing(1))["metadata"] == {
        "name": "t1",
        "uid": "u1",
        "resourceVersion": "5",
        "labels": {"new": "1"},
    }


@pytest.mark.parametrize(
    ("more", "wrong", "says"),
    [
        ({}, {"result": {"status": "Failure", "message": "no way"}}, "failed: no way"),
        ({}, {"result": {}}, "failed: response.result.status was '', not 'Success'"),
        ({}, {"uid": "other"}, 'failed: expected response.uid="[0-9a-f-]{36}", got "other"'),
        ({}, {"convertedObjects": []}, "returned 0 objects, expected 1"),
        (
            {"apiVersion": "example.com/v9"},
            {},
            r"returned invalid object: invalid groupVersion \(expected example.com/v2, received example.com/v9\)",
        ),
        ({"metadata": {"name": "stolen", "uid": "u1"}}, {}, "invalid object: must have the same name: t1 != stolen"),
        ({"metadata": {"name": "t1"}}, {}, "returned invalid object: must have the same UID: u1 != "),
        ({"metadata": {"name": "t1", "uid": "u1", "labels": {"a": 1}}}, {}, r"metadata.labels\[a\] must be a string"),
        ({"metadata": {"name": "t1", "uid": "u1", "labels": {"a b": ""}}}, {}, "invalid metadata: .*name part"),
    ],
)  # fmt: skip
def test_an_answer_that_does_not_fit_is_an_error(more, wrong, says):
    with pytest.raises(ApiError, match=f"conversion webhook for example.com/v1, Kind=Thing .*{says}"):
        converted(Webhook({"t1": more}, **wrong), thing(1))
