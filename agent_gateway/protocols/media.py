"""Images and files inside JSON: data URLs to `Media` and back."""

from __future__ import annotations

import re

from agent_gateway.core.conversation import Media

_DATA_URL = re.compile(r"data:(?P<type>[^;,]*)(?:;[^;,]*)*?;base64,(?P<data>.*)", re.DOTALL | re.IGNORECASE)


def media_of_url(url: str) -> Media:
    """A `data:` URL becomes base64 data with its media type; any other stays a URL."""
    match = _DATA_URL.fullmatch(url)
    if match is None:
        return Media(url=url)
    return Media(data=match["data"], media_type=match["type"] or None)


def url_of_media(media: Media) -> str | None:
    """None where all there is is a provider's file id."""
    if media.data is not None:
        return f"data:{media.media_type or 'application/octet-stream'};base64,{media.data}"
    return media.url
