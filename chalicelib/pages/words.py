"""Every word on the buyer's pages, in both languages: (English, 简体中文).

`for_template` goes to the templates, `for_script` with the page to its script. A word is never put together from
pieces: word order differs. `{name}` marks where the script puts a value, as text.
"""

from __future__ import annotations

from chalicelib.pages.language import Language

_TEMPLATE = {
    "order_title": ("Your order", "您的订单"),
    "switch_language": ("Language", "语言"),
    "loading": ("Opening your order…", "正在打开订单…"),
    "needs_script": ("This page needs JavaScript to show your order.", "此页面需要启用 JavaScript 才能显示订单。"),
    "not_found_title": ("Nothing here", "页面不存在"),
    "not_found_text": (
        "This address does not open an order. Check that you copied the whole link, or ask the shop for it again.",
        "该链接无法打开任何订单。请确认链接复制完整，或向商家重新索取。",
    ),
    "your_items": ("Items", "商品"),
    "total": ("Total", "合计"),
    "your_keys": ("Your keys", "您的卡密"),
    "refund": ("Refund", "退款"),
    "qr_alt": ("Code to scan and pay", "支付二维码"),
    "order_details": ("Order details", "订单信息"),
    "cancel": ("Not now", "暂不"),
    "reveal_title": ("Show your keys?", "确认查看卡密？"),
    "reveal_text": (
        "Once the keys have been shown, this order can no longer be refunded. Only go on if you want to use them.",
        "卡密一经查看，本订单将无法退款。请确认需要使用后再继续。",
    ),
    "reveal_yes": ("Show my keys", "查看卡密"),
    "refund_title": ("Refund this order?", "确认申请退款？"),
    "refund_text": (
        "The money goes back the way you paid. Keys that you have not opened are taken back.",
        "款项将原路退回，尚未查看的卡密将被收回。",
    ),
    "refund_yes": ("Refund", "申请退款"),
    "sandbox_title": ("Sandbox payment", "沙箱支付"),
    "sandbox_ribbon": ("Test page: no real money moves here", "测试页面：不会产生真实扣款"),
    "sandbox_amount": ("Amount to pay", "应付金额"),
    "sandbox_order": ("Order", "订单号"),
    "sandbox_choose": ("What should the buyer do?", "请选择要模拟的付款结果"),
    "play_paid": ("Pay", "付款成功"),
    "play_paid_text": ("The full amount, at once.", "立即支付全部金额。"),
    "play_failed": ("Fail", "付款失败"),
    "play_failed_text": ("The payment is refused; nothing is taken.", "支付被拒绝，不扣款。"),
    "play_paid_late": ("Pay late", "超时付款"),
    "play_paid_late_text": ("The money arrives after the order has expired.", "订单过期之后款项才到账。"),
    "play_paid_twice": ("Pay twice", "重复付款"),
    "play_paid_twice_text": (
        "The provider tells about the payment more than once.",
        "支付渠道多次发送同一笔付款通知。",
    ),
    "play_wrong_amount": ("Wrong amount", "金额不符"),
    "play_wrong_amount_text": ("One smallest coin too much.", "多付一个最小货币单位。"),
    "back_to_shop": ("Back to the shop", "返回商家"),
    "see_order": ("See the order", "查看订单"),
}

_SCRIPT = {
    "pending_payment": ("Waiting for payment", "等待付款"),
    "pending_payment_text": (
        "Your items are held for you until the time runs out.",
        "商品已为您保留，请在倒计时结束前完成付款。",
    ),
    "paid": ("Paid", "已付款"),
    "paid_text": ("Your payment has arrived. Delivery follows as shown below.", "已收到您的付款，将按下方说明发货。"),
    "delivering": ("Preparing your keys", "正在发货"),
    "delivering_text": ("This page updates by itself.", "本页面会自动更新。"),
    "delivered": ("Delivered", "已发货"),
    "delivered_text": ("Your keys are ready whenever you are.", "卡密已就绪，可随时查看。"),
    "partially_delivered": ("Partly delivered", "部分已发货"),
    "partially_delivered_text": ("Some keys are ready, the rest follow.", "部分卡密已就绪，其余将陆续发货。"),
    "cancelled": ("Cancelled", "订单已取消"),
    "cancelled_text": ("Nothing was charged for this order.", "本订单未产生扣款。"),
    "expired": ("Expired", "订单已过期"),
    "expired_text": (
        "It was not paid in time. If you did pay, the keys follow or the money comes back by itself.",
        "未在规定时间内付款。若您已付款，系统将自动发货或原路退款。",
    ),
    "refunding": ("Refund on its way", "退款处理中"),
    "refunding_text": ("The money is going back the way you paid.", "款项正在原路退回。"),
    "refunded": ("Refunded", "已退款"),
    "refunded_text": ("The money went back the way you paid.", "款项已原路退回。"),
    "partially_refunded": ("Partly refunded", "部分已退款"),
    "partially_refunded_text": ("A part of the money went back the way you paid.", "部分款项已原路退回。"),
    "needs_review": ("Being checked", "订单核对中"),
    "needs_review_text": (
        "Something about the payment needs a look by a person. You need not do anything.",
        "付款信息需要人工核对，您无需任何操作。",
    ),
    "line_reserved": ("Held for you", "已保留"),
    "line_released": ("Not bought", "已释放"),
    "line_allocating": ("Preparing", "备货中"),
    "line_awaiting_manual": ("The shop delivers by hand", "等待商家发货"),
    "line_scheduled": ("Due {when}", "将于 {when} 发货"),
    "line_delivered": ("Ready", "已发货"),
    "line_revealed": ("Shown", "已查看"),
    "line_disputed": ("Payment disputed", "付款有争议"),
    "line_refunding": ("Refunding", "退款中"),
    "line_refunded": ("Refunded", "已退款"),
    "pay": ("Pay {amount}", "支付 {amount}"),
    "scan_to_pay": ("Scan this code with your phone to pay {amount}", "请用手机扫码支付 {amount}"),
    "pay_in_app": ("Pay {amount} in the app you came from.", "请返回下单的应用内支付 {amount}。"),
    "time_left": ("Time left to pay", "剩余付款时间"),
    "time_over": ("The time is up; waiting for the last word…", "时间已到，正在确认订单状态…"),
    "hours_left": ("{hours} h {minutes} min", "{hours} 小时 {minutes} 分"),
    "sealed": ("Your keys are sealed. Nobody has seen them yet.", "卡密已封存，尚未被查看。"),
    "sealed_again": ("Your keys were shown before.", "卡密此前已被查看。"),
    "reveal": ("Show my keys", "查看卡密"),
    "reveal_again": ("Show them again", "再次查看"),
    "revealing": ("Opening…", "正在打开…"),
    "revealed": ("{count} keys shown", "已显示 {count} 个卡密"),
    "copy": ("Copy", "复制"),
    "copied": ("Copied", "已复制"),
    "copy_all": ("Copy all", "全部复制"),
    "copy_failed": ("Select the text and copy it by hand.", "请手动选中并复制。"),
    "save_file": ("Save as file", "保存为文件"),
    "hide": ("Hide", "隐藏"),
    "copy_field": ("Copy {field} of key {number}", "复制第 {number} 个卡密的 {field}"),
    "may_refund": (
        "You can give this order back as long as its keys have not been shown.",
        "在查看卡密之前，您可以申请退款。",
    ),
    "ask_refund": ("Ask for a refund", "申请退款"),
    "refund_asking": ("Asking…", "正在提交…"),
    "refund_pending": ("On its way", "处理中"),
    "refund_succeeded": ("Done", "已完成"),
    "refund_failed": ("Failed; the shop takes care of it", "失败，商家将跟进处理"),
    "refund_reversed": ("Came back; the shop takes care of it", "退款被退回，商家将跟进处理"),
    "order_no": ("Order number", "订单号"),
    "order_id": ("Order id", "系统编号"),
    "created": ("Ordered", "下单时间"),
    "paid_on": ("Paid on", "付款时间"),
    "offline": ("No connection. Trying again by itself…", "网络连接中断，正在自动重试…"),
    "not_found_text": ("There is no order at this address.", "该链接对应的订单不存在。"),
    "refused_busy": ("A moment, please, then try again.", "请稍候片刻再试。"),
    "refused": ("That is not possible right now.", "当前无法执行此操作。"),
    "support": ("Reference for the shop: {request_id}", "反馈商家时请提供：{request_id}"),
    "played_paid": ("Paid. The order has been told.", "付款成功，已通知订单系统。"),
    "played_failed": ("The payment failed. The order still waits.", "付款失败，订单仍在等待付款。"),
    "played_paid_late": (
        "The payment will be told at {when}, after the order has expired.",
        "将于 {when}（订单过期后）发送付款通知。",
    ),
    "played_paid_twice": ("Paid, and told more than once.", "付款成功，并已重复发送通知。"),
    "played_wrong_amount": (
        "Paid with the wrong amount; the order goes to review.",
        "已按错误金额付款，订单将转人工核对。",
    ),
    "playing": ("Sending…", "正在发送…"),
}  # fmt: skip


def for_template(language: Language) -> dict[str, str]:
    return _in(language, _TEMPLATE)


def for_script(language: Language) -> dict[str, str]:
    return _in(language, _SCRIPT)


def _in(language: Language, words: dict[str, tuple[str, str]]) -> dict[str, str]:
    return {name: pair[language == "zh"] for name, pair in words.items()}
