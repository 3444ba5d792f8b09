"""What an attacker sends: each row of the table of bad input, and the answer that it gets."""

import json

import pytest
from starlette.testclient import TestClient

from ebbtide.api.headers import HEADERS
from ebbtide.api.limits import Bucket, Limits, Rate

JOBS = "/api/v1/jobs"
MIB = 1024 * 1024


def kind(response):
    assert response.headers["content-type"] == "application/problem+json"
    return response.json()["type"].removeprefix("urn:ebbtide:problem:")


@pytest.mark.parametrize(
    "headers, code",
    [
        ({}, None),
        ({"Authorization": ""}, "invalid_request"),
        ({"Authorization": "Basic YW5uOnB3"}, "invalid_request"),
        ({"Authorization": "Bearer"}, "invalid_request"),
        ({"Authorization": "Bearer wrong"}, "invalid_token"),
        ({"Authorization": "Bearer ebt_wrong"}, "invalid_token"),
        ({"Authorization": b"Bearer ebt_\xff\xfe"}, "invalid_token"),
        ({"Authorization": "Bearer ebt_" + "x" * 10_000}, "invalid_token"),
    ],
)
def test_who_has_no_token_is_challenged(app, headers, code):
    response = TestClient(app).get(JOBS, headers=headers)

    assert (response.status_code, kind(response)) == (401, "unauthenticated")
    challenge = 'Bearer realm="ebbtide"'
    assert response.headers["www-authenticate"] == (f'{challenge}, error="{code}"' if code else challenge)


def test_a_token_in_the_url_is_none(app, token):
    secret = token()

    for query in ({"token": secret}, {"access_token": secret}):
        assert TestClient(app).get(JOBS, params=query).status_code == 401


def test_a_role_that_does_not_reach_is_told(client, post):
    response = client("viewer").post(f"{JOBS}/{post()}/cancel")

    assert (response.status_code, kind(response)) == (403, "insufficient-scope")
    assert 'error="insufficient_scope"' in response.headers["www-authenticate"]


@pytest.mark.parametrize(
    "job",
    [
        "..",
        "%2e%2e",
        "%00",
        "a" * 37,
        "a" * 10_240,
        "%F0%9F%98%80",
        "' OR 1=1--",
        "a;b",
        "%FF",
        "_",
        "%25",
    ],
)
def test_an_id_that_is_none_is_refused_as_such(ann, job):
    response = ann.get(f"http://testserver{JOBS}/{job}/tasks")

    assert (response.status_code, kind(response)) in ((400, "invalid-job-id"), (404, "not-found"))
    if job not in ("..", "%2e%2e"):  # these the client itself resolves
        assert response.status_code == 400


@pytest.mark.parametrize(
    "path", ["/api/v1//jobs", "/api/v1/jobs/..%2f..%2fetc%2fpasswd", "/api/v1/jobs;x", "/x"]
)
def test_a_path_that_is_none_is_not_found(ann, path):
    response = ann.get(f"http://testserver{path}")

    assert (response.status_code, kind(response)) == (404, "not-found")


@pytest.mark.parametrize(
    "flow", ["os.system", "builtins.eval", "a.b.c", "\u0430dd", "add@2", "add@x", "add\x7f"]
)
def test_a_flow_that_is_none_is_unknown(ann, flow):
    response = ann.post(JOBS, json={"flow": flow, "params": {"a": 1}})

    assert (response.status_code, kind(response)) == (422, "unknown-flow")


@pytest.mark.parametrize(
    "field", ["state", "owner", "tenant", "epoch", "posted_by", "id", "who", "__class__"]
)
def test_unknown_fields_are_refused_with_a_pointer(ann, field):
    response = ann.post(JOBS, json={"flow": "add", "params": {"a": 1}, field: 1})

    assert (response.status_code, kind(response)) == (422, "invalid-body")
    assert [each["pointer"] for each in response.json()["errors"]] == [f"/{field}"]


@pytest.mark.parametrize(
    "body",
    [
        {"flow": 1},
        {"flow": ""},
        {"flow": "x" * 121},
        {"flow": "add", "params": []},
        {"flow": "add", "priority": "1"},
        {"flow": "add", "priority": True},
        {"flow": "add", "priority": 10**30},
        {"flow": "add", "delay_seconds": -1},
        {"flow": "add", "labels": {"a": 1}},
        {"flow": "add", "version": 0},
        [],
        1,
        None,
    ],
)
def test_wrong_types_are_refused(ann, body):
    response = ann.post(JOBS, json=body)

    assert response.status_code in (400, 422)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b'{"flow":"add","params":' + b'{"a":' * 40 + b"1" + b"}" * 41,
        b'{"flow":"add","priority":' + b"9" * 5000 + b"}",
        b'{"flow":"add","delay_seconds":NaN}',
        b'{"flow":"add","delay_seconds":1e999}',
        b'{"flow":"add","flow":"add"}',
        b'{"flow":"\xff"}',
        b'\xef\xbb\xbf{"flow":"add"}',
        b'{"flow":"\\ud800"}',
        b'{"flow":"\\u0000"}',
        b'{"\\u0000":1}',
        b'{"flow":"add","params":{' + b",".join(b'"k%d":1' % n for n in range(10_001)) + b"}}",
    ],
    ids=range(14),
)
def test_what_is_no_strict_json_is_refused(ann, body):
    response = ann.post(JOBS, content=body, headers={"Content-Type": "application/json"})

    assert (response.status_code, kind(response)) == (400, "invalid-json")


@pytest.mark.parametrize(
    "media", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
def test_a_body_that_is_not_called_json_is_refused(ann, media):
    response = ann.post(JOBS, content=b'{"flow":"add"}', headers={"Content-Type": media})

    assert (response.status_code, kind(response)) == (415, "unsupported-media-type")


def test_a_body_that_is_compressed_is_refused(ann):
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}

    assert ann.post(JOBS, content=b"{}", headers=headers).status_code == 415


def test_a_body_that_is_too_large_is_refused_whatever_it_says_of_itself(ann):
    def chunks():
        for _ in range(3):
            yield b" " * (MIB // 2)

    headers = {"Content-Type": "application/json"}
    told = ann.post(JOBS, content=b" " * (MIB + 1), headers=headers)
    untold = ann.post(JOBS, content=chunks(), headers=headers)

    assert [(each.status_code, kind(each)) for each in (told, untold)] == [(413, "too-large")] * 2


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "-1"},
        {"limit": "0"},
        {"limit": "201"},
        {"limit": "1000000000"},
        {"limit": "x"},
        {"limit": "51", "params": "true"},
        {"cursor": "x"},
        {"cursor": "' OR 1=1"},
        {"cursor": "P" * 60},
        {"cursor": "x" * 101},
        {"state": "'; DROP TABLE jobs"},
        {"label": "x"},
        {"text": "x" * 101},
        {"sort": "id"},
        {"tenant": "ann"},
    ],
)
def test_a_parameter_that_is_none_is_refused(ann, query):
    response = ann.get(JOBS, params=query)

    assert response.status_code == 400
    assert kind(response) in ("invalid-parameter", "wrong-call")


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "javascript:alert(1)"])
def test_markup_is_stored_as_text(ann, post, text):
    job = post(labels={"note": text})
    cancelled = ann.post(f"{JOBS}/{job}/cancel", json={"reason": text})

    assert cancelled.json()["cancel"]["reason"] == text
    assert cancelled.json()["labels"] == {"note": text}
    assert cancelled.headers["content-type"] == "application/json"


@pytest.mark.parametrize("text", ["\x1b[31mred", "\u202eright to left", "\x9b", "x" * 1001])
def test_text_that_a_terminal_would_obey_is_refused(ann, post, text):
    job = post()

    assert ann.post(f"{JOBS}/{job}/cancel", json={"reason": text}).status_code in (400, 422)
    assert ann.get(f"{JOBS}/{job}").json()["state"] == "pending"


def test_a_method_that_is_none_is_refused_and_the_others_named(ann, post):
    response = ann.get(f"{JOBS}/{post()}/cancel")

    assert (response.status_code, kind(response)) == (405, "method-not-allowed")
    assert response.headers["allow"] == "POST"
    overridden = ann.get(f"{JOBS}/{post()}", headers={"X-HTTP-Method-Override": "DELETE"})
    assert overridden.json()["state"] == "pending"


@pytest.mark.parametrize(
    "method, path",
    [
        ("GET", "/healthz"),
        ("GET", JOBS),
        ("GET", "/x"),
        ("PUT", JOBS),
        ("POST", JOBS),
        ("GET", "/api/v1/openapi.json"),
    ],
)
def test_every_response_has_the_headers(ann, app, method, path):
    for client in (ann, TestClient(app)):
        headers = client.request(method, path).headers
        assert {name: headers[name] for name in HEADERS} == HEADERS
        assert headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in headers
        assert "unsafe" not in headers["content-security-policy"]


def test_hosts_and_forwarded_addresses_are_not_believed(ann):
    headers = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"}

    response = ann.post(JOBS, json={"flow": "add", "params": {"a": 1}}, headers=headers)

    assert response.headers["location"].startswith("/api/v1/jobs/")


class TestLimits:
    @pytest.fixture
    def limits(self):
        return Limits(requests=Rate(1e-6, 5), cancels=Rate(1e-6, 3), wrong_tokens=Rate(1e-6, 4))

    def test_a_flood_of_posts_does_not_stand_in_the_way_of_a_cancel(self, ann, post):
        job = post()
        statuses = {ann.get(JOBS).status_code for _ in range(10)}
        refused = ann.get(JOBS)

        assert statuses == {200, 429}
        assert kind(refused) == "too-many-requests"
        assert int(refused.headers["retry-after"]) > 0
        assert ann.post(f"{JOBS}/{job}/cancel").status_code == 200

    def test_one_callers_flood_is_its_own(self, client):
        ann, eve = client(), client("operator", "eve")
        assert [ann.get(JOBS).status_code for _ in range(6)] == [200] * 5 + [429]

        assert eve.get(JOBS).status_code == 200

    def test_who_guesses_is_not_listened_to_any_more(self, app):
        guesses = [
            TestClient(app).get(JOBS, headers={"Authorization": f"Bearer ebt_{n}"}).status_code
            for n in range(6)
        ]
        logins = [TestClient(app, follow_redirects=False).post("/login", data={"token": "x"}).status_code]

        assert guesses == [401] * 4 + [429] * 2
        assert logins == [429]


def test_a_bucket_fills_again_in_time():
    now = [0.0]
    bucket = Bucket(Rate(2.0, 2), now=lambda: now[0])

    first = [bucket.take("ann") for _ in range(3)]
    now[0] += 0.5
    second = [bucket.take("ann") for _ in range(2)]

    assert first == [0.0, 0.0, 0.5]
    assert second == [0.0, 0.5]
    assert bucket.take("eve") == 0.0


def test_the_description_names_every_problem_as_one(app):
    described = json.dumps(app.openapi())

    assert "HTTPValidationError" not in described
    for path, operations in app.openapi()["paths"].items():
        for operation in operations.values():
            assert path in ("/healthz",) or "application/problem+json" in json.dumps(operation["responses"])
