"""The reading page and what it loads."""

from fastapi import APIRouter

from stage3_detect.serving.context import ServiceContext


def make_router(_: ServiceContext) -> APIRouter:
    """The routes of the page."""
    return APIRouter()
