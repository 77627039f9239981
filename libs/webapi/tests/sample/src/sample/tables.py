"""Tables of the sample service."""

from sqlalchemy import Column, MetaData, Table, Text

from webapi.idempotency import idempotency_table
from webapi.operators import manual_act_table

metadata = MetaData()
thing = Table("thing", metadata, Column("thing_id", Text, primary_key=True))
idempotency_key = idempotency_table(metadata)
manual_act = manual_act_table(metadata)
