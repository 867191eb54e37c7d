"""The OpenAPI document is kept: whatever it allows, and whatever it does not, gets an answer that it describes."""

from __future__ import annotations

import pytest

from helpers.service import Running

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed: the document is not tried")
EXAMPLES = 12  # of each operation


def test_every_answer_is_one_that_the_document_describes(service: Running) -> None:
    import hypothesis
    from schemathesis import checks

    schema = schemathesis.openapi.from_url(f"{service.address}/openapi.json")
    tried = []
    for result in schema.get_all_operations():
        operation = result.ok()
        tried.append(operation.label)
        documented = {*operation.definition.raw["responses"], "404", "405"}

        def ask(case, documented: set[str]) -> None:
            answer = case.call(base_url=service.address)
            assert str(answer.status_code) in documented, f"{case.operation.label}: {answer.status_code}"
            case.validate_response(answer, checks=[checks.not_a_server_error])

        settings = hypothesis.settings(
            max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
        )
        always = hypothesis.strategies.just(documented)
        hypothesis.seed(0)(settings(hypothesis.given(case=operation.as_strategy(), documented=always)(ask)))()
    assert {"POST /api/score", "GET /api/studies", "POST /api/images/{image}/label", "GET /health"} <= set(tried)


def test_the_document_names_no_page_of_readers(client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert all(path.startswith(("/api/", "/health", "/metrics")) for path in paths)
