"""Payment providers: one module per provider, found by its file name.

    FACTS: ProviderFacts
        Its methods, currencies, account fields, schedule, and the answer its notices want.
    start(payment, now) -> Started
        Open the payment at the provider. Repeating it with the same payment answers the same payment.
    read_notice(account, headers, raw_body, now) -> Notice | None
        Verify and translate a message; `headers` is case-insensitive. None: genuine, and about nothing of ours
        (a self-test of the console). Reads secrets, moves nothing.
    find(payment) -> Found
        Ask what became of a payment. Never raises for "not yet"; answers `unknown` when the provider is out of reach.
    close(payment) -> Closed
        Make sure that nobody can pay any more; closing twice is a success. Never raises.
    refund(payment, refund_id, amount_minor, now) -> RefundResult
        Give money back under our refund id. Repeating it with the same id never pays twice.
    find_refund(payment, refund_id) -> RefundResult | None
        Ask what became of a refund; None when the provider has never heard of it.
    statement(account, day) -> list[StatementLine]
        All movements of a day ("YYYY-MM-DD", the provider's own), asked of its API.
    parse_statement(account, raw, day) -> list[StatementLine]
        The same out of the file an operator downloaded.

A provider whose console checks the notice address by a GET has one more, `prove_address(account, headers)`: the text to
answer it with.

Raises: payments.bad_notice (read_notice, prove_address: any failure of verification), payments.provider_unavailable
(start, statement: timeout, 5xx, unreadable), payments.provider_refused (start, statement: a definite no, or an account
not filled in),
payments.no_statement (statement: not made yet, or not offered), payments.bad_statement (parse_statement). `refund`
answers `unknown` instead of raising when the outcome is not known.

An adapter must not: write to our table (the sandbox and the balance write only their own rows), read a stored secret
(they come with the account), decide about an order, log a body, retry silently, or move money in any call but `refund`.
What only some calls need (cryptography) is imported inside them.
"""
