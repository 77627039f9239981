"""Tokens of clear values, for blacklists."""

from __future__ import annotations

from fastapi import Request
from pydantic import BaseModel

from contracts import Buyer, Receiver
from contracts.envelope import Code, Id, LongText, RegionCode, Text
from contracts.intake import Phone
from ingest import tables
from ingest.api.common import runtime_of
from ingest.privacy import Tokens, destination_of
from webapi.callers import Operator
from webapi.models import StrictModel
from webapi.operators import ManualReason, record_manual_act
from webapi.routing import Router

router = Router(prefix="/v1")


class AddressQuery(StrictModel):
    region_code: RegionCode | None = None
    province: Text = ""
    city: Text = ""
    district: Text = ""
    town: Text = ""
    street: LongText


class BuyerQuery(StrictModel):
    channel: Code
    buyer_id: Id


class TokenQuery(ManualReason):
    """What to turn into tokens. Nothing of it is stored."""

    phone: Phone | None = None
    name: Text | None = None
    """Counts together with phone and address only: that is a receiver."""
    address: AddressQuery | None = None
    handle: LongText | None = None
    """A platform's handle of a masked receiver: oaid, open_address_id."""
    buyer: BuyerQuery | None = None


class TokenView(BaseModel):
    """As they stand in `destination` and `buyer_token` of orders; None for what was not asked or cannot be told."""

    phone_token: str | None = None
    address_token: str | None = None
    receiver_token: str | None = None
    buyer_token: str | None = None


@router.post("/tokens", tags=["operators"], summary="The tokens of a phone, an address, a receiver or a buyer")
async def make_tokens(body: TokenQuery, principal: Operator, request: Request) -> TokenView:
    """For blacklists: rules compare tokens, so that no clear phone stands in one. Noted with who and why, never with what."""
    tokens: Tokens = request.app.state.tokens
    address = body.address or AddressQuery(street="")
    receiver = Receiver(**address.model_dump(), name=body.name or "", phone=body.phone or "", handle=body.handle)
    destination = destination_of(receiver, tokens)
    async with runtime_of(request).work() as work:
        await record_manual_act(
            work.connection,
            tables.manual_act,
            who=principal.name,
            act="make_tokens",
            subject="tokens",
            why=body.reason,
            at=work.now,
            detail={"asked": sorted(body.model_fields_set - {"reason"})},
        )
    return TokenView(
        phone_token=destination.phone_token or None,
        address_token=destination.address_token or None,
        receiver_token=destination.receiver_token or None,
        buyer_token=tokens.buyer(body.buyer.channel, Buyer(buyer_id=body.buyer.buyer_id)) if body.buyer else None,
    )
