"""The parts of a running service, put together once and handed to whatever answers a request."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fastapi import Request

from aeflow.scoring.scorer import Scorer
from aeflow.serve.accounts import Accounts, Who
from aeflow.serve.database import Database
from aeflow.serve.health import Health
from aeflow.serve.intake import Intake
from aeflow.serve.labels import Labels
from aeflow.serve.measured import Measures
from aeflow.serve.nearest import NearestNormals
from aeflow.serve.recalibration import Recalibration
from aeflow.serve.rescoring import Rescoring
from aeflow.serve.worklist import Worklist


@dataclass(frozen=True, slots=True)
class Options:
    """What an operator may choose."""

    host: str = "127.0.0.1"
    port: int = 8765
    most_bytes: int = 256 * 2**20  # of the body of a request
    most_waiting: int = 64  # uploads; more are told to come again (429)
    most_together: int = 4  # times ``most_bytes`` that those which wait have in all
    seconds: float = 120.0  # until a request is given up (503)
    secure: bool = False  # if TLS stands in front: cookies are then for TLS alone


@dataclass(frozen=True, slots=True)
class Service:
    """One model, one worklist, and who may use them."""

    options: Options
    run: Path
    folder: Path
    scorer: Scorer
    database: Database
    worklist: Worklist
    labels: Labels
    accounts: Accounts
    intake: Intake
    measures: Measures
    health: Health
    nearest: NearestNormals
    recalibration: Recalibration
    rescoring: Rescoring

    @classmethod
    def of(
        cls, options: Options, run: Path, folder: Path, scorer: Scorer, database: Database, token: str | None = None
    ) -> Service:
        """Put a service together; ``folder`` keeps the images."""
        worklist, labels = Worklist(database, scorer), Labels(database)
        most_together = options.most_together * options.most_bytes
        intake = Intake(scorer, worklist, folder, options.most_waiting, most_together)
        return cls(
            options=options,
            run=run,
            folder=folder,
            scorer=scorer,
            database=database,
            worklist=worklist,
            labels=labels,
            accounts=Accounts(database, token),
            intake=intake,
            measures=Measures(),
            health=Health(scorer, intake.queue),
            nearest=NearestNormals(run, scorer.backend.size),
            recalibration=Recalibration(run, folder, labels, intake),
            rescoring=Rescoring(database, intake),
        )

    def close(self) -> None:
        """End all threads, after what waits."""
        self.rescoring.close()
        self.intake.close()
        self.database.close()


def service_of(request: Request) -> Service:
    """Return the service that a request came to."""
    found: Service = request.app.state.service
    return found


def who_of(request: Request) -> Who:
    """Return who sent a request, as the guard found."""
    found: Who = request.state.who
    return found
