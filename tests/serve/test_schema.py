"""The OpenAPI document against the service itself: what it promises is what comes, for requests right and wrong."""

import time
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gelert.guard.policy import Policy
from gelert.serve.app import build
from gelert.serve.audit import Audit
from gelert.serve.dashboard import app as dashboard
from gelert.serve.engine import Engine, Limits
from gelert.serve.gate import Settings
from gelert.serve.hooks import app as hooks
from gelert.serve.hooks.transcript import Homes
from tests.serve.scripted_guard import ScriptedGuard

EXAMPLES = 200
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
DEADLINE_SECONDS = 5.0
"""Of one request, though the machine be busy."""


@contextmanager
def opened(folder: Path) -> Generator[TestClient]:
    engine = Engine(ScriptedGuard(), Policy(), Audit(folder / "audit.db"), Limits(deadline_seconds=DEADLINE_SECONDS))
    routers = dashboard.router(engine), hooks.router(engine, Homes(folder, folder))
    app = build(engine, Settings("t" * 32), *routers)
    headers = {"authorization": f"Bearer {'t' * 32}"}
    with TestClient(app, base_url="http://127.0.0.1:1", headers=headers, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with opened(tmp_path_factory.mktemp("schema")) as found:
        yield found


@pytest.fixture(scope="module")
def schema(client: TestClient) -> schemathesis.BaseSchema:
    load_all_checks()
    return schemathesis.openapi.from_dict(client.get("/openapi.json").json())


def test_every_answer_is_in_the_document(client: TestClient, schema: schemathesis.BaseSchema) -> None:
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    cases = {
        f"{operation.method} {operation.path}": operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
        | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
        for operation in operations
    }
    assert {"post /v1/judge", "post /v1/sessions/{key}/steps", "post /v1/moderations"} < cases.keys()
    asked: Counter[str] = Counter()

    @seed(6)
    @settings(max_examples=EXAMPLES, database=None)
    @given(name=st.sampled_from(sorted(cases)), data=st.data())
    def answered(name: str, data: st.DataObject) -> None:
        case = data.draw(cases[name])
        asked[name] += 1
        started = time.monotonic()
        response = client.request(**sent(case))
        assert time.monotonic() - started < DEADLINE_SECONDS
        case.validate_response(cast("Any", response), checks=CHECKS)

    answered()
    assert asked.keys() == cases.keys()


def sent(case: Case[Any]) -> dict[str, Any]:
    """The case as a request of this client, which has the token."""
    words = case.as_transport_kwargs(base_url="http://127.0.0.1:1")
    words["headers"] = {key: value for key, value in words["headers"].items() if key.lower() != "authorization"}
    if "data" in words and not isinstance(words["data"], dict):
        words["content"] = words.pop("data")
    return {key: value for key, value in words.items() if key != "cookies"}
