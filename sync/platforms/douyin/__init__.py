"""Douyin, by its Open Platform (open.douyin.com): works, comments, and private messages."""

from sync.platforms.douyin.adapter import Douyin

platform = Douyin()
