"""Which state is shown, and the work towards the next one, without any widget."""

import contextlib
import threading
from collections.abc import Callable
from typing import Any, Self

from .jobs import Cancelled, Job, Missing
from .panels import Drawn
from .state import CHOICES_OF, State
from .views import view
from .workspace import Workspace


class Exploration:
    """A state, what was drawn of it, and the work in the background towards what the user wants next.

    What is computed already is shown at once, anything else after a thread has computed it; the latest wish wins, and what
    can't be shown leaves everything as it was. Whoever shows it fills in ``_shown``, ``_failed`` and ``_busy``.

    workspace : pictures, models and results. state : what is shown. drawn : what was drawn of it.
    """

    def __init__(self, workspace: Workspace):
        self.workspace = workspace
        self.state, self.drawn = State(), None
        self._wanted = self.state
        self._job: Job | None = None
        self._threads: list[threading.Thread] = []
        self._warming: Job | None = None
        self._lock = threading.RLock()  # what is shown, and which job is the present one, change together

    def _shown(self) -> None:
        """Show it: there is something new, or controls may say something else than what is shown."""

    def _failed(self, error: Exception, changes: dict[str, Any]) -> None:
        """Say what went wrong with these choices."""

    def _busy(self, what: str | None, done: int, total: int) -> None:
        """Say what is being done, None for nothing, and how many of how many steps are over."""

    def set(self, **changes: Any) -> Self:
        """Show other choices of ``State``, computed before this returns. Raises ValueError for a bad one and shows the
        rest as before."""
        self._drop()
        try:
            self._show(*self._draw(self._with(changes), Job(self._busy)))
        finally:
            self._busy(None, 0, 1)
        return self

    def change(self, **changes: Any) -> None:
        """Show other choices, in the background where something must be computed first."""
        with self._lock:
            try:
                state = self._with(changes)
                if state == self._wanted and self._job is not None:
                    return
                if state == self.state:
                    self._drop()
                    self._shown()
                    return
                state, drawn = self._draw(state)
            except Missing:
                self._start(state, changes)
            except Exception as error:
                self._fail(error, changes)
            else:
                self._drop()
                self._show(state, drawn)

    def cancel(self) -> None:
        """Stop the work in the background at its next step; what is shown stays."""
        with self._lock:
            if self._job is not None:
                self._drop()
                self._shown()
            self._busy(None, 0, 1)

    def warm(self) -> None:
        """Load the model in the background, so that the first new map needs not wait for it."""
        try:
            self.workspace.clip(self.state)
        except Missing:
            with self._lock:
                if self._warming is None:
                    self._warming = job = Job(lambda *at: self._report(None, *at))
                    self._run(self._warm, job)

    def wait(self, seconds: float = 600) -> Self:
        """Wait until the work in the background is done."""
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(seconds)
        return self

    @property
    def code(self) -> str:
        """The line of code that shows the same again."""
        own = self.workspace.models_of(self.state.run) if self.state.run else {}
        named = {name: getattr(self.state, name) for name, value in own.items() if getattr(self.state, name) != value}
        return self.state.line(given=self.workspace.given, **named)

    def _with(self, changes: dict[str, Any]) -> State:
        """What is wanted with these changes, and what follows from opening another run."""
        if changes.get("run") is not None and changes["run"] != self.state.run:
            changes = {**self.workspace.models_of(self._wanted.but(run=changes["run"]).run), **changes}
        return self._wanted.but(**changes)

    def _draw(self, state: State, job: Job | None = None) -> tuple[State, Drawn]:
        """The state with what is drawn of it. A tab that is opened forgets choices of its own that are no longer there."""
        differing = {name for name, value in vars(state).items() if value != getattr(self.state, name)}
        self.workspace.check(state, differing, job)
        try:
            return state, view(state.tab)(self.workspace, state, job)
        except ValueError:
            afresh = state.but(**{name: getattr(State, name) for name in CHOICES_OF.get(state.tab, ())})
            if differing != {"tab"} or afresh == state:
                raise
            return afresh, view(afresh.tab)(self.workspace, afresh, job)

    def _start(self, state: State, changes: dict[str, Any]) -> None:
        self._drop()
        self._wanted = state
        self._job = job = Job(lambda *at: self._report(job, *at))
        self._busy("starting", 0, 1)
        self._run(self._work, job, state, changes)

    def _run(self, target: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads = [*filter(threading.Thread.is_alive, self._threads), thread]
        thread.start()

    def _work(self, job: Job, state: State, changes: dict[str, Any]) -> None:
        try:
            state, drawn = self._draw(state, job)
        except Cancelled:
            return
        except Exception as error:
            with self._lock:
                if job is self._job:
                    self._fail(error, changes)
        else:
            with self._lock:
                if job is self._job:
                    self._job = None
                    self._show(state, drawn)
                    self._busy(None, 0, 1)

    def _warm(self, job: Job) -> None:
        try:
            self.workspace.clip(self.state, job)
        except Exception:
            return  # it is said when the model is needed
        finally:
            with self._lock:
                self._warming = None
                if self._job is None:
                    self._busy(None, 0, 1)
        with self._lock, contextlib.suppress(Exception):  # of another model than the stored maps', which stay
            if self._job is None and self.drawn is not None:
                self._show(*self._draw(self.state))  # now with all methods to choose from

    def _report(self, job: Job | None, what: str, done: int, total: int) -> None:
        with self._lock:
            if job is self._job:
                self._busy(what, done, total)

    def _drop(self) -> None:
        """Stop the present job, if there is one."""
        with self._lock:
            job, self._job = self._job, None
            self._wanted = self.state
            if job is not None:
                job.cancel()
                self._busy(None, 0, 1)

    def _fail(self, error: Exception, changes: dict[str, Any]) -> None:
        self._drop()
        self._failed(error, changes)

    def _show(self, state: State, drawn: Drawn) -> None:
        with self._lock:
            self.state = self._wanted = state
            self.drawn = drawn
            self._shown()
