"""Matrix (matrix.org), by its Client-Server API over plain httpx."""

from sync.platforms.matrix.adapter import Matrix

platform = Matrix()
