"""
An HTTP endpoint that runs what strangers post.

    uvicorn --app-dir examples endpoint:app
    curl -d '{"code": "sum(range(10))"}' -H 'Content-Type: application/json' localhost:8000/run

Each request gets a copy of a prepared interpreter. If the client goes away, its code is ended.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from pydantic import BaseModel, Field

import pycontain

LIMITS = {"memory": "256M", "pids": 32, "disk": "16M", "timeout": 5, "output": "256K"}


class Snippet(BaseModel):
    """What is to be run."""

    code: str = Field(max_length=100_000)
    stdin: str = Field("", max_length=1_000_000)


class Outcome(BaseModel):
    """How it ended."""

    status: int
    reason: str
    stdout: str
    stderr: str
    value: object = None
    seconds: float


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Keep a pool as long as the server runs."""
    async with pycontain.Pool(4, imports=["json", "math", "statistics"], **LIMITS) as pool:
        app.state.pool = pool
        yield


app = FastAPI(title="Run Python", lifespan=lifespan)


@app.post("/run")
async def run(snippet: Snippet, request: Request) -> Outcome:
    """Run a piece of code."""
    result = await request.app.state.pool.run_async(snippet.code, stdin=snippet.stdin.encode())
    return Outcome(
        status=result.status, reason=result.reason, stdout=result.text,
        stderr=result.stderr.decode(errors="replace"), value=result.value, seconds=result.wall,
    )  # fmt: skip
