"""The rows of the bad-input catalogue that a request body breaks, as data: (id, body, code, param), all answered by a 400."""

from __future__ import annotations

from tests.unit.chat.rows.messages import MESSAGES
from tests.unit.chat.rows.parameters import PARAMETERS_ROWS
from tests.unit.chat.rows.syntax import SYNTAX

BAD_REQUESTS = [*SYNTAX, *MESSAGES, *PARAMETERS_ROWS]
