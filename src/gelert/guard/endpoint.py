"""Judges a trajectory with a published AgentDoG checkpoint behind a backend: the verdict first, then the diagnosis."""

import math
from dataclasses import dataclass, field, replace

from gelert.backends.base import Answer, Backend, Failure, Request
from gelert.core.errors import InputError
from gelert.core.taxonomy import Diagnosis, Taxonomy, builtin
from gelert.core.trajectory import Setting, Trajectory
from gelert.core.verdict import Reading, Safe, Unreadable, Unsafe, Verdict
from gelert.guard.contracts import LABELS, Contract
from gelert.guard.parse import Parsed, parse
from gelert.guard.prompts.agentdog import render

ANSWER_TOKENS = {
    Contract.COARSE_1_0: 8,
    Contract.FINE_1_0: 128,
    Contract.COARSE_1_5: 1024,
    Contract.FINE_1_5: 1024,
    Contract.UNIFIED_1_5: 2048,
    Contract.GUARDRAIL_JSON: 512,
}
"""Room for an answer. AgentDoG 1.5 writes 305 to 493 tokens a verdict and was evaluated with at most 1024."""


@dataclass(frozen=True)
class EndpointGuard:
    """A published checkpoint as a guard.

    The risk is the probability of ``unsafe`` against ``safe`` at the first token where the contract begins with the
    label and the backend gives log-probabilities; else it is 1.0 or 0.0 and calibrated in no way.
    """

    backend: Backend
    contract: str
    """Name of the contract; see ``Contract``. A fine-grained one cannot judge: it has no safe option."""
    fine_backend: Backend | None = None
    """Asked for the diagnosis, and only of a run that was judged unsafe."""
    taxonomy: Taxonomy = field(default_factory=builtin)
    threshold: float = 0.5
    """Least risk that is unsafe."""
    max_prompt_characters: int = 48_000
    """A longer prompt is not sent. The released checkpoints are served with 16,384 tokens of context."""

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise InputError(f"expected a threshold above 0 and at most 1, got {self.threshold!r}")
        if Contract.named(self.contract).is_fine:
            raise InputError(
                f"expected a contract that gives a verdict, got {self.contract!r}, which calls every run unsafe;"
                " pass its checkpoint as fine_backend"
            )

    @property
    def name(self) -> str:
        """The contract and the model."""
        return f"{self.contract} on {self.backend.name}"

    @property
    def concurrency(self) -> int:
        """As many as its backends are best asked at once."""
        return min(backend.concurrency for backend in (self.backend, self.fine_backend) if backend is not None)

    def judge(self, trajectory: Trajectory, setting: Setting | None = None) -> Verdict:
        """The verdict; ``Unreadable`` if the run does not fit, no answer came, or it cannot be read."""
        if not trajectory.steps:
            return Unreadable("expected a trajectory with at least one step, got an empty one")
        run = trajectory if setting is None else replace(trajectory, setting=setting)
        contract = Contract.named(self.contract)
        answer = self._ask(self.backend, contract, run)
        if isinstance(answer, Unreadable):
            return answer
        said = parse(contract, answer.text, self.taxonomy, finish_reason=answer.finish_reason)
        if isinstance(said, Unreadable):
            return said
        risk = self._risk(contract, answer, said)
        reading = Reading(len(run.steps), len(run.steps))
        if risk < self.threshold:
            return Safe(risk, reading)
        diagnosis, remark = self._diagnose(contract, run, said)
        return Unsafe(risk, reading, diagnosis, rationale="\n\n".join(filter(None, (said.rationale, remark))))

    def _ask(self, backend: Backend, contract: Contract, run: Trajectory) -> Answer | Unreadable:
        messages = render(contract, run, self.taxonomy)
        length = sum(len(message.content) for message in messages)
        if length > self.max_prompt_characters:
            return Unreadable(
                f"expected a prompt of at most {self.max_prompt_characters} characters for {backend.name!r},"
                f" got {length}; serve it with a longer context and raise max_prompt_characters, or use a guard card"
            )
        labels = LABELS if contract.begins_with_label else ()
        reply = backend.ask(Request(messages, ANSWER_TOKENS[contract], labels))
        return Unreadable(f"{backend.name}: {reply.reason}") if isinstance(reply, Failure) else reply

    def _risk(self, contract: Contract, answer: Answer, said: Parsed) -> float:
        logprobs = dict(answer.label_logprobs or ())
        if contract.begins_with_label and all(label in logprobs for label in LABELS):
            return 1 / (1 + math.exp(min(logprobs["safe"] - logprobs["unsafe"], 700.0)))
        return float(said.unsafe is not False)

    def _diagnose(self, contract: Contract, run: Trajectory, said: Parsed) -> tuple[Diagnosis, str]:
        """The diagnosis, and a remark where there is none although one was asked for."""
        if contract == Contract.UNIFIED_1_5 or self.fine_backend is None:
            return said.diagnosis, "; ".join(said.notes)
        answer = self._ask(self.fine_backend, contract.fine_partner, run)
        if isinstance(answer, Unreadable):
            return Diagnosis(), f"No diagnosis: {answer.reason}"
        fine = parse(contract.fine_partner, answer.text, self.taxonomy, finish_reason=answer.finish_reason)
        if isinstance(fine, Unreadable):
            return Diagnosis(), f"No diagnosis: {fine.reason}"
        return fine.diagnosis, "\n\n".join(filter(None, (fine.rationale, "; ".join(fine.notes))))
