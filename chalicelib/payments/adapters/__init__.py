"""Payment providers: one module per provider, found by its file name.

    start(payment, now) -> Started
        Open the payment at the provider. Repeating it with the same payment answers the same.
    read_notice(headers, raw_body, now) -> Notice
        Verify and translate a message; `headers` is case-insensitive. Reads secrets, moves nothing.
    find(payment) -> Found
        Ask what became of a payment. Never raises for "not yet"; answers `unknown` when the provider is out of reach.
    refund(payment, refund_id, amount_minor, now) -> RefundResult
        Give money back under our refund id. Repeating it with the same id never pays twice.
    find_refund(payment, refund_id) -> RefundResult | None
        Ask what became of a refund; None when the provider has never heard of it.

    KEEPS_SESSION
        True when `start` makes something at the provider whose handle must be kept to find the payment again.

Raises: payments.bad_notice (read_notice: any failure of verification), payments.provider_unavailable (start: timeout,
         5xx,
unreadable), payments.provider_refused (start: a definite no). `refund` answers `unknown` instead of raising when the
         outcome
is not known.

An adapter must not: write to our table (the sandbox writes only its own rows), decide about an order, log a body, retry
silently, or move money in any call but `refund`.
"""
