"""The Douyin Open Platform for one account and one app, as its documents have it.

Numbers come as texts now and then, as they do there.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tests.doubles.base import Answer, Double, serve
from tests.pushed.requests import DOUYIN, FAN, ME

DAY_S = 86_400
MOST = 20  # of a page


class DouyinDouble(Double):
    def __init__(self, file: Path) -> None:
        self.codes = {"good-code"}
        self.access = self.refresh = ""
        self.refresh_ends_in = 30 * DAY_S
        self.made = self.renewals = 0
        self.items: list[dict[str, Any]] = []  # newest first
        self.comments: dict[str, list[dict[str, Any]]] = {}  # by item, newest first
        self.replies: dict[str, list[dict[str, Any]]] = {}  # by comment, newest first
        self.private: list[dict[str, Any]] = []
        self.calls: list[str] = []
        self.next_error = 0
        super().__init__(file)

    # --- what happens -------------------------------------------------------------------------

    def do(self, order: dict[str, Any]) -> Any:
        return getattr(self, f"_{order['order']}")(order)

    def _item(self, order: dict[str, Any]) -> str:
        name = f"@item+{len(self.items)}=="
        self.items.insert(
            0,
            {
                "item_id": name,
                "title": f"作品 {len(self.items)}",
                "create_time": str(int(order.get("at") or time.time())),
                "share_url": "https://www.iesdouyin.com/share/video/1",
                "statistics": {"digg_count": 0, "play_count": "7"},
            },
        )
        self.comments[name] = []
        return name

    def _comment(self, order: dict[str, Any]) -> list[str]:
        return [self._add(order, text) for text in order["texts"]]

    def _add(self, order: dict[str, Any], text: str) -> str:
        self.made += 1
        comment = {
            "comment_id": f"@comment+{self.made}==",
            "comment_user_id": order.get("by", FAN),
            "content": text,
            "create_time": int(order.get("at") or time.time()),
            "digg_count": "0",
            "top": False,
        }
        if parent := order.get("parent"):
            self.replies.setdefault(parent, []).insert(0, comment)
        else:
            self.comments[order["item"]].insert(0, comment)
        return str(comment["comment_id"])

    def _delete_comment(self, order: dict[str, Any]) -> None:
        for listed in self.comments.values():
            listed[:] = [one for one in listed if one["comment_id"] != order["comment"]]

    def _token(self, order: dict[str, Any]) -> None:
        self.made += 1
        self.access = f"act.{self.made}"
        self.refresh = self.refresh or "rft.aaaaaaaa"

    def _renewed(self, order: dict[str, Any]) -> None:
        self.renewals += 1
        self.refresh, self.refresh_ends_in = f"rft.renewed{self.renewals}", 30 * DAY_S

    def _revoke(self, order: dict[str, Any]) -> None:
        self.access = self.refresh = "revoked"

    def _expire_access(self, order: dict[str, Any]) -> None:
        self.access = "run out"

    def _age(self, order: dict[str, Any]) -> None:
        self.refresh_ends_in = order["seconds"]

    def _fail(self, order: dict[str, Any]) -> None:
        self.next_error = order["code"]

    def _sent(self, order: dict[str, Any]) -> str:
        self.private.append(order["message"])
        return f"@sent+{len(self.private)}=="

    def _look(self, order: dict[str, Any]) -> Any:
        return getattr(self, order["at"])

    # --- what the app may ask -----------------------------------------------------------------

    def answer(self, method: str, path: str, given: dict[str, Any]) -> Answer:
        self.calls.append(path)
        if self.next_error:
            code, self.next_error = self.next_error, 0
            return _bad(code)
        login = {
            "/oauth/access_token/": self._for_code,
            "/oauth/refresh_token/": self._for_refresh,
            "/oauth/renew_refresh_token/": self._renew,
        }
        if path in login:
            known = given.get("client_key") == DOUYIN["client_key"]
            return login[path](given) if known else _bad(10003)
        if given["headers"].get("access-token") != self.access or given.get("open_id") != ME:
            return _bad(2190008)
        asked = {
            "/api/douyin/v1/video/video_list/": self._video_list,
            "/item/comment/list/": lambda one: _page(one, self._listed(one["item_id"])),
            "/item/comment/reply/list/": lambda one: _page(
                one, self.replies.get(one["comment_id"], [])
            ),
            "/item/comment/reply/": self._reply,
            "/im/send/msg/": self._send,
        }
        return asked[path](given) if path in asked else (404, {})

    def _for_code(self, given: dict[str, Any]) -> Answer:
        if given.get("client_secret") != DOUYIN["client_secret"]:
            return _bad(10013)
        return self._tokens() if given.get("code") in self.codes else _bad(10007)

    def _for_refresh(self, given: dict[str, Any]) -> Answer:
        right = given.get("refresh_token") in (self.refresh or DOUYIN["refresh_token"],)
        return self._tokens() if right and self.refresh_ends_in > 0 else _bad(10010)

    def _tokens(self) -> Answer:
        self.order({"order": "token"})
        return _good(
            {
                "access_token": self.access,
                "refresh_token": self.refresh,
                "open_id": ME,
                "expires_in": str(15 * DAY_S),
                "refresh_expires_in": self.refresh_ends_in,
                "scope": "user_info",
            }
        )

    def _renew(self, given: dict[str, Any]) -> Answer:
        if self.renewals >= 5:
            return _bad(10020)
        self.order({"order": "renewed"})
        return _good({"refresh_token": self.refresh, "expires_in": str(30 * DAY_S)})

    def _video_list(self, given: dict[str, Any]) -> Answer:
        shown = [
            {**one, "statistics": {**one["statistics"], "comment_count": self._count(one)}}
            for one in self.items
        ]
        return _page(given, shown)

    def _count(self, item: dict[str, Any]) -> int:
        comments = self.comments[item["item_id"]]
        return len(comments) + sum(len(self.replies.get(c["comment_id"], [])) for c in comments)

    def _listed(self, item: str) -> list[dict[str, Any]]:
        return [
            {**one, "reply_comment_total": str(len(self.replies.get(one["comment_id"], [])))}
            for one in self.comments.get(item, [])
        ]

    def _reply(self, given: dict[str, Any]) -> Answer:
        order = {
            "order": "comment",
            "item": given["item_id"],
            "parent": given.get("comment_id", ""),
            "texts": [given["content"]],
            "by": ME,
        }
        return _good({"comment_id": self.order(order)[0]})

    def _send(self, given: dict[str, Any]) -> Answer:
        if not given.get("msg_id") or given.get("scene") != "im_reply_msg":
            return _bad(28001007)
        message = {k: v for k, v in given.items() if k != "headers"}
        return _good({"msg_id": self.order({"order": "sent", "message": message})})


def _page(given: dict[str, Any], rows: list[dict[str, Any]]) -> Answer:
    start, count = int(given["cursor"]), min(int(given["count"]), MOST)
    end = start + count
    more = end < len(rows)
    return _good({"list": rows[start:end] or None, "cursor": str(end), "has_more": more})


def _good(data: dict[str, Any]) -> Answer:
    return 200, {
        "data": {"error_code": 0, "description": "", **data},
        "extra": {"error_code": 0, "description": "", "now": int(time.time() * 1000)},
    }


def _bad(code: int) -> Answer:
    said = {"error_code": str(code), "description": f"错误 {code}"}
    return 200, {"data": said, "extra": {**said, "logid": "2022"}}


if __name__ == "__main__":
    serve(DouyinDouble)
