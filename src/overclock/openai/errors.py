"""What the API answers when it cannot: a status and OpenAI's error object."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypedDict

from overclock.errors import InputError, OverclockError, OverloadError

BAD_REQUEST = 400
NOT_FOUND = 404
TOO_MANY = 429
SERVER_ERROR = 500


class ErrorObject(TypedDict):
    """OpenAI's error object. param: the field that is wrong, as a path; code: for programs."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(TypedDict):
    """The body of an answer that is an error."""

    error: ErrorObject


class ApiError(OverclockError):
    """A request that cannot be answered.

    status: the HTTP status; retry_after_s: when it is worth trying again, if it is
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = BAD_REQUEST,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code
        self.retry_after_s = retry_after_s

    @property
    def type(self) -> str:
        """OpenAI's word for this kind of error."""
        if self.status == TOO_MANY:
            return "rate_limit_error"
        return "server_error" if self.status >= SERVER_ERROR else "invalid_request_error"

    def object(self) -> ErrorObject:
        """The error object."""
        return {
            "message": str(self),
            "type": self.type,
            "param": self.param,
            "code": self.code,
        }

    def body(self) -> ErrorBody:
        """The body of the answer."""
        return {"error": self.object()}


def api_error(error: OverclockError, param: str | None = None) -> ApiError:
    """`error` as the API tells it; a mistake of the user's is in the field `param`."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, OverloadError):
        return ApiError(
            str(error), status=TOO_MANY, code="overloaded", retry_after_s=error.retry_after_s
        )
    if isinstance(error, InputError):
        return ApiError(str(error), param=param)
    return ApiError(str(error), status=SERVER_ERROR)


@contextmanager
def blaming(param: str | None) -> Iterator[None]:
    """What goes wrong inside becomes an ApiError; mistakes of the user's are in `param`."""
    try:
        yield
    except OverclockError as error:
        raise api_error(error, param) from error
