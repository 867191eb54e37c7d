"""Images that only former models have scored, scored by the present one as well, in the background."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, select

from aeflow.imageio.errors import ImageError
from aeflow.serve.database import Database
from aeflow.serve.intake import Former, Intake
from aeflow.serve.tables import images, studies


@dataclass(slots=True)
class Progress:
    """How far it has come, in files."""

    running: bool = False
    done: int = 0
    of: int = 0
    refused: int = 0  # files that cannot be read any more


class Rescoring:
    """One rescoring at a time; what it has done is kept when the service ends, and the next one goes on from there."""

    def __init__(self, database: Database, intake: Intake) -> None:
        self.database, self.intake = database, intake
        self.progress = Progress()
        self._one = threading.Lock()
        self._ends = threading.Event()
        self._thread: threading.Thread | None = None

    def waiting(self) -> int:
        """Return how many files only former models have scored."""
        with self.database.reading() as connection:
            return connection.scalar(select(func.count(func.distinct(images.c.content))).where(self._former())) or 0

    def start(self, who: str) -> None:
        """Begin, unless it is running."""
        with self._one:
            if self.progress.running:
                return
            with self.database.reading() as connection:
                # in the order in which they came: a study came with the first of its files
                chosen = select(images.c.content).where(self._former()).group_by(images.c.content)
                contents = list(connection.scalars(chosen.order_by(func.min(images.c.at))))
            self.progress = Progress(True, of=len(contents))
            self._thread = threading.Thread(target=self._run, args=(contents, who), name="rescoring", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End it after the file that it is at."""
        self._ends.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, contents: list[str], who: str) -> None:
        try:
            for content in contents:
                if self._ends.is_set():
                    return
                try:
                    self.intake.again(content, self._of(content), who)
                except (ImageError, OSError):
                    self.progress.refused += 1
                self.progress.done += 1
        finally:
            self.progress.running = False

    def _former(self) -> ColumnElement[bool]:
        """Return the condition on an image that the present model has not scored."""
        own = select(images.c.content).where(images.c.model == self.intake.worklist.model)
        return images.c.content.not_in(own)

    def _of(self, content: str) -> dict[int, Former]:
        """Return what is known of each image of a file from the last model that scored it, and when it first came."""
        columns = (images.c.slice, images.c.patient, studies.c.key, studies.c.source, images.c.row, images.c.at)
        chosen = select(*columns).join(studies, studies.c.id == images.c.study).where(images.c.content == content)
        with self.database.reading() as connection:
            found = connection.execute(chosen.order_by(images.c.model)).all()
        came = min(row.at for row in found)
        return {row.slice: Former(row.patient, row.key, row.source, row.row["path"], came) for row in found}
