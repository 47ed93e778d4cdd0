"""Who is in the demo, and what they say."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Desk:
    """An account that Muster watches."""

    username: str
    name: str


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who writes to the desks."""

    username: str
    name: str
    language: str
    talks_to: tuple[str, ...]
    greeting: tuple[str, ...]


SALES = Desk("sales", "Sales desk")
SUPPORT = Desk("support", "Support desk")
DESKS = (SALES, SUPPORT)

PEOPLE = (
    Person(
        "alice",
        "Alice Archer",
        "en",
        (SALES.username,),
        ("Hello! Is the blue bicycle still for sale?", "And could you ship it to Leeds? 🚲"),
    ),
    Person(
        "lina",
        "李娜",
        "zh",
        (SALES.username, SUPPORT.username),
        ("你好，请问这个订单什么时候发货？", "订单号是 20260042，谢谢 🙏"),
    ),
    Person(
        "layla",
        "ليلى حداد",
        "ar",
        (SUPPORT.username,),
        ("مرحبًا، وصلتني القطعة الخطأ.", "هل يمكنني استبدالها من فضلك؟ 📦"),
    ),
    Person(
        "diego",
        "Diego Núñez",
        "es",
        (SALES.username, SUPPORT.username),
        ("¡Buenas! ¿Tienen la talla 43?", "Gracias, espero su respuesta 😀👍🏽"),
    ),
)

LINES = {
    "en": (
        "Any news on my order?",
        "Thank you, that was quick! 🎉",
        "Can I pay by invoice?",
        "The courier says Tuesday. Is that right?",
        "Do you also have it in green? 💚",
        "I changed my mind: two of them, please.",
    ),
    "zh": (
        "有优惠活动吗？",
        "已经付款了，请查收。",
        "可以开发票吗？🧾",
        "收到了，质量很好！👍",
        "能不能改一下收货地址？",
        "请问客服几点下班？",
    ),
    "ar": (
        "شكرًا جزيلًا! 🌷",
        "كم تستغرق مدة التوصيل؟",
        "هل الدفع عند الاستلام متاح؟",
        "أرسلت لكم صورة المنتج.",
        "متى يعود المنتج إلى المخزون؟",
        "عنواني الجديد في دبي 🏙️",
    ),
    "es": (
        "¿Hacen envíos a Canarias?",
        "Perfecto, lo compro. 🛒",
        "¿Me pueden mandar la factura?",
        "Todavía no ha llegado el paquete…",
        "¡Mil gracias por la ayuda! 🙌",
        "¿A qué hora abren mañana?",
    ),
}

PARAGRAPH = (
    "This is the whole story of the parcel: how it left the warehouse, crossed three borders, "
    "waited a week beside a river, and came home. "
    "包裹的故事。قصة الطرد. La historia del paquete. 📦\n"
)


def long_story(size_bytes: int) -> str:
    """A text of at least `size_bytes` in UTF-8."""
    return PARAGRAPH * (size_bytes // len(PARAGRAPH.encode()) + 1)
