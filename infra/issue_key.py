"""`make api-key`: issue an API key of a deployed stage, with the rights of whoever runs it. The key is printed once."""

from __future__ import annotations

import argparse
import os
import sys
import time


def main() -> int:
    parser = argparse.ArgumentParser(description="Issue an API key.")
    parser.add_argument("--stage", required=True)
    parser.add_argument("--region", default="")
    parser.add_argument("--scope", choices=("operator", "shop"), required=True)
    parser.add_argument("--shop", default="", help="the shop a shop key belongs to")
    options = parser.parse_args()
    if not options.region and not os.environ.get("AWS_REGION"):
        print("say where: make api-key STAGE=… REGION=eu-central-1 SCOPE=operator", file=sys.stderr)
        return 1
    os.environ["STAGE"] = options.stage
    if options.region:
        os.environ["AWS_REGION"] = options.region
    from botocore.exceptions import BotoCoreError, ClientError

    from chalicelib.accounts.api_keys import issue_api_key

    try:
        print(issue_api_key(options.scope, int(time.time()), shop_id=options.shop or None, label="make api-key"))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    except (BotoCoreError, ClientError) as error:
        print(f"no key was issued: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
