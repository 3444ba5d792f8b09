"""The description and the application agree: schemathesis asks all that can be asked."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from ebbtide.api.limits import Limits, Rate

# What fits the description may still name a flow that is not there; and the gate, not each route, asks who.
NOT_ASKED = [ignored_auth, positive_data_acceptance]
# They go on for ever.
STREAMS = ("/api/v1/events", "/api/v1/jobs/{job_id}/events")
BOUNDED = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def limits():
    unlimited = Rate(1e6, 1_000_000)
    return Limits(requests=unlimited, cancels=unlimited, wrong_tokens=unlimited)


@pytest.fixture
def described(poster, serving, token):
    secret = token("admin")
    schema = schemathesis.openapi.from_url(
        f"{serving}/api/v1/openapi.json", headers={"Authorization": f"Bearer {secret}"}
    )
    return schema, secret, poster.post("add", {"a": 1}).id


def test_whatever_is_asked_is_answered_as_described(described):
    schema, secret, job = described
    asked = 0
    for operation in schema.exclude(path=list(STREAMS)).get_all_operations():

        @BOUNDED
        @schemathesis_given(operation.ok())
        def ask(case):
            nonlocal asked
            asked += 1
            if "job_id" in case.path_parameters and asked % 2:
                case.path_parameters["job_id"] = job
            case.call_and_validate(headers={"Authorization": f"Bearer {secret}"}, excluded_checks=NOT_ASKED)

        ask()

    assert asked > 200


def test_nothing_that_is_asked_in_a_row_is_a_fault(described):
    schema, secret, _ = described
    machine = schema.exclude(path=list(STREAMS)).as_state_machine()

    class Machine(machine):
        def get_call_kwargs(self, case):
            return {"headers": {"Authorization": f"Bearer {secret}"}}

        def validate_response(self, response, case, **options):
            case.validate_response(response, excluded_checks=NOT_ASKED)

    Machine.run(settings=settings(BOUNDED, max_examples=5, stateful_step_count=10))


def schemathesis_given(operation):
    from hypothesis import given

    return given(case=operation.as_strategy())
