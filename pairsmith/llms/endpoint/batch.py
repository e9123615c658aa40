"""`mode: batch`: requests go to an endpoint in a file and replies are collected later, often at half the price.

The requests of all shards of a stage are gathered and submitted before the run waits for any of them; see `batch_desk`.
A run waits for its batches up to the endpoint's deadline; a later run collects those that are not done by then.

The protocol is described at https://platform.openai.com/docs/api-reference/batch
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pairsmith.config import ModelSpec
from pairsmith.ledger.ledger import Ledger
from pairsmith.llms.budget import amount_of, spent_on
from pairsmith.llms.endpoint.batch_client import Answer
from pairsmith.llms.endpoint.batch_desk import BatchDesk
from pairsmith.llms.endpoint.batch_gathering import BatchDesks, desks_of, wait
from pairsmith.llms.endpoint.hosts import identity_at
from pairsmith.llms.endpoint.keys import key_of, without
from pairsmith.llms.endpoint.told_errors import error_in, is_final
from pairsmith.llms.endpoint.wire import NoReply, reply_of, unread_bill
from pairsmith.llms.purse import Purse
from pairsmith.protocol import Awaited, Bill, Finished, Reply, Request
from pairsmith.session import Session


class Batched:
    """A backend that submits batches, waits for them and collects their replies.

    It keeps within the budget itself, since what a batch may cost is reserved until its replies are recorded, in
    whichever run that is.
    """

    def __init__(
        self, spec: ModelSpec, ledger: Ledger, session: Session, dataset: str = "", purse: Purse | None = None
    ) -> None:
        assert spec.endpoint is not None
        self.identity = identity_at(spec)
        self._endpoint, self._price, self._ledger, self._session = spec.endpoint, spec.price, ledger, session
        self._dataset, self._purse = dataset, purse

    def stream(self, requests: Sequence[Request]) -> Iterator[Finished]:
        """Raises Awaited in a run that gathers, where some requests are not answered yet: ask again when they are."""
        self._key, desks = key_of(self._endpoint, self._session), desks_of(self._session)
        desk = self._desk(desks)
        ends = time.monotonic() + self._endpoint.deadline
        left = {request.key(self.identity): index for index, request in enumerate(requests)}
        while left:
            amounts = {key: amount_of(requests[index], self._price) for key, index in left.items()}
            refused = desk.add({key: (requests[index], amounts[key]) for key, index in left.items()})
            is_done = desks.gathers or wait([desk], ends)
            replies = self._replies(desk.take(left), left, requests)
            if replies:
                yield [(left[key], reply) for key, reply in replies.items()]
                desk.recorded(
                    {key: (amounts[key], spent_on(one, amounts[key], self._price)) for key, one in replies.items()}
                )
            left = {key: index for key, index in left.items() if key not in replies}
            if left and desks.gathers and not desks.gives_up:
                raise Awaited
            if desks.gives_up:
                desk.submit()
            if desks.gives_up or not is_done:
                yield [(left.pop(key), Reply("", error=desk.late(key))) for key in [*left] if key not in refused]
            if left and not replies:
                assert self._purse is not None
                raise self._purse.spent_up(min(amounts[key] for key in left))

    def _desk(self, desks: BatchDesks) -> BatchDesk:
        where = (self._ledger.url, self._endpoint.base_url, self.identity.model, self._dataset)
        return desks.desk(
            where,
            lambda: BatchDesk(self._endpoint, self.identity.model, self._key, self._ledger, self._dataset, self._purse),
        )

    def _replies(
        self, answers: Mapping[str, tuple[str, Answer]], indices: Mapping[str, int], requests: Sequence[Request]
    ) -> dict[str, Reply]:
        """The replies in the answers of batches. Each has a name, so that it is paid for once."""
        return {
            key: self._reply(answer, requests[indices[key]], f"{batch_id} {key}")
            for key, (batch_id, answer) in answers.items()
        }

    def _reply(self, answer: Answer, request: Request, name: str) -> Reply:
        if isinstance(answer, str):
            return Reply("", error=answer)
        response: dict[str, Any] = answer.get("response") or {}
        status = response.get("status_code")
        if status != 200:
            problem = without(self._key, answer.get("error") or response.get("body") or f"status {status}")[:500]
            return Reply("", error=f"refused: {problem}", final=is_final(status, problem))
        body = response.get("body")
        if told := error_in(body):
            words = without(self._key, told.words)[:500]
            return Reply("", error=f"refused: {words}", final=is_final(told.status, words))
        try:
            reply = reply_of(body, request)
        except NoReply as error:
            return Reply("", error=str(error), bill=unread_bill(request, json.dumps(body).encode(), str(error), name))
        return replace(reply, bill=replace(reply.charged or Bill(), id=name))
