"""Create the tables of ledger, and seed the first chart of accounts and templates.

Revision ID: 2026_11_24_2000
Revises:
"""

import json
from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

import eventing.migrations
import webapi.migrations

revision: str = "2026_11_24_2000"
down_revision: str | None = None
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

PERIOD = "~ '^[0-9]{4}-(0[1-9]|1[0-2])$'"

TABLES: Sequence[str] = (
    """
    CREATE TABLE chart_version (
        version integer PRIMARY KEY CHECK (version >= 1),
        document jsonb NOT NULL,
        created_at timestamptz NOT NULL,
        created_by text NOT NULL
    )
    """,
    """
    CREATE TABLE template_version (
        code text COLLATE "C" NOT NULL,
        version integer NOT NULL CHECK (version >= 1),
        valid_from timestamptz NOT NULL,
        word text COLLATE "C" NOT NULL CHECK (word <> ''),
        name text NOT NULL,
        document jsonb NOT NULL,
        created_at timestamptz NOT NULL,
        created_by text NOT NULL,
        PRIMARY KEY (code, version)
    )
    """,
    f"""
    CREATE TABLE closed_period (
        book text COLLATE "C" NOT NULL,
        period text COLLATE "C" NOT NULL CHECK (period {PERIOD}),
        closed_at timestamptz NOT NULL,
        closed_by text NOT NULL,
        reason text NOT NULL,
        PRIMARY KEY (book, period)
    )
    """,
    # What the book's owner decides; an order keeps what was in force when it was paid. Without a row: domain/policy.py.
    """
    CREATE TABLE policy_version (
        book text COLLATE "C" NOT NULL,
        version integer NOT NULL CHECK (version >= 1),
        valid_from timestamptz NOT NULL,
        recognition text COLLATE "C" NOT NULL CHECK (recognition IN ('delivered', 'receipt_confirmed')),
        damaged_value_bp integer NOT NULL CHECK (damaged_value_bp BETWEEN 0 AND 10000),
        created_at timestamptz NOT NULL,
        created_by text NOT NULL,
        PRIMARY KEY (book, version)
    )
    """,
    # The claim of (what is posted once for ever, template), and all that a voucher says. A row without postings is a claim
    # alone: it has no number.
    """
    CREATE TABLE voucher (
        voucher_id uuid PRIMARY KEY,
        claim_id uuid NOT NULL,
        event_id uuid NOT NULL,
        template text COLLATE "C" NOT NULL,
        template_version integer NOT NULL,
        content_hash bytea NOT NULL,
        root_id uuid NOT NULL,
        order_id uuid NOT NULL,
        shipment_id uuid,
        channel text COLLATE "C" NOT NULL,
        shop_id text COLLATE "C" NOT NULL,
        currency text COLLATE "C" NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
        occurred_at timestamptz NOT NULL,
        occurred_on date NOT NULL,
        summary text NOT NULL,
        total_minor bigint NOT NULL CHECK (total_minor >= 0),
        posting_count integer NOT NULL CHECK (posting_count <> 1 AND (posting_count > 0) = (total_minor > 0)),
        hash bytea NOT NULL CHECK (length(hash) = 32),
        recorded_at timestamptz NOT NULL,
        CONSTRAINT voucher_claim UNIQUE (claim_id, template)
    )
    """,
    "CREATE INDEX voucher_order ON voucher (order_id)",
    """
    CREATE TABLE posting (
        voucher_id uuid NOT NULL,
        line integer NOT NULL CHECK (line >= 1),
        account text COLLATE "C" NOT NULL,
        debit_minor bigint NOT NULL CHECK (debit_minor >= 0),
        credit_minor bigint NOT NULL CHECK (credit_minor >= 0),
        origin_order_id uuid,
        origin_line integer CHECK ((origin_line IS NULL) = (origin_order_id IS NULL)),
        PRIMARY KEY (voucher_id, line),
        CHECK ((debit_minor > 0) <> (credit_minor > 0))
    )
    """,
    f"""
    CREATE TABLE voucher_number (
        book text COLLATE "C" NOT NULL,
        period text COLLATE "C" NOT NULL CHECK (period {PERIOD}),
        word text COLLATE "C" NOT NULL,
        number integer NOT NULL CHECK (number >= 1),
        voucher_id uuid NOT NULL CONSTRAINT voucher_number_once UNIQUE,
        hash bytea NOT NULL CHECK (length(hash) = 32),
        posted_on date NOT NULL,
        PRIMARY KEY (book, period, word, number),
        CHECK (to_char(posted_on, 'YYYY-MM') = period)
    )
    """,
    # The one row that batches queue for: short, taken last, room on its page for new versions of it.
    f"""
    CREATE TABLE voucher_counter (
        book text COLLATE "C" NOT NULL,
        period text COLLATE "C" NOT NULL CHECK (period {PERIOD}),
        word text COLLATE "C" NOT NULL,
        last_number integer NOT NULL,
        link_no integer NOT NULL CHECK (link_no >= 1),
        digest bytea NOT NULL CHECK (length(digest) = 32),
        link_hash bytea NOT NULL CHECK (length(link_hash) = 32),
        PRIMARY KEY (book, period, word),
        CHECK (last_number >= link_no)
    ) WITH (fillfactor = 10)
    """,
    """
    CREATE TABLE chain_link (
        book text COLLATE "C" NOT NULL,
        period text COLLATE "C" NOT NULL,
        word text COLLATE "C" NOT NULL,
        link_no integer NOT NULL CHECK (link_no >= 1),
        first_number integer NOT NULL CHECK (first_number >= 1),
        last_number integer NOT NULL CHECK (last_number >= first_number),
        digest bytea NOT NULL CHECK (length(digest) = 32),
        hash bytea NOT NULL CHECK (length(hash) = 32),
        linked_at timestamptz NOT NULL,
        PRIMARY KEY (book, period, word, link_no)
    )
    """,
    """
    CREATE TABLE balance_delta (
        delta_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        book text COLLATE "C" NOT NULL,
        period text COLLATE "C" NOT NULL,
        account text COLLATE "C" NOT NULL,
        currency text COLLATE "C" NOT NULL,
        debit_minor bigint NOT NULL CHECK (debit_minor >= 0),
        credit_minor bigint NOT NULL CHECK (credit_minor >= 0)
    ) WITH (autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0)
    """,
    """
    CREATE TABLE account_balance (
        book text COLLATE "C" NOT NULL,
        period text COLLATE "C" NOT NULL,
        account text COLLATE "C" NOT NULL,
        currency text COLLATE "C" NOT NULL,
        debit_minor bigint NOT NULL CHECK (debit_minor >= 0),
        credit_minor bigint NOT NULL CHECK (credit_minor >= 0),
        PRIMARY KEY (book, period, account, currency)
    ) WITH (fillfactor = 50)
    """,
    # What is owed to us, by channel, shop and day of payment, so that it can be aged without reading postings.
    """
    CREATE TABLE owed_delta (
        delta_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        book text COLLATE "C" NOT NULL,
        account text COLLATE "C" NOT NULL,
        channel text COLLATE "C" NOT NULL,
        shop_id text COLLATE "C" NOT NULL,
        currency text COLLATE "C" NOT NULL,
        paid_on date NOT NULL,
        posted_on date NOT NULL,
        amount_minor bigint NOT NULL
    ) WITH (autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0)
    """,
    """
    CREATE TABLE owed_balance (
        book text COLLATE "C" NOT NULL,
        account text COLLATE "C" NOT NULL,
        channel text COLLATE "C" NOT NULL,
        shop_id text COLLATE "C" NOT NULL,
        currency text COLLATE "C" NOT NULL,
        paid_on date NOT NULL,
        posted_on date NOT NULL,
        amount_minor bigint NOT NULL,
        PRIMARY KEY (book, account, channel, shop_id, currency, paid_on, posted_on)
    ) WITH (fillfactor = 50)
    """,
    # One row per order, origin, stock document or voucher made by hand: the lock, the count of its vouchers, and whether its
    # accounts must be looked at (entangled), or its buyer has confirmed something (confirmed).
    """
    CREATE TABLE order_account (
        order_id uuid PRIMARY KEY,
        step integer NOT NULL CHECK (step >= 0),
        is_order boolean NOT NULL,
        entangled boolean NOT NULL,
        confirmed boolean NOT NULL
    ) WITH (fillfactor = 70)
    """,
    # What the order book must have heard of every order.
    "CREATE VIEW posted_order AS SELECT order_id, step FROM order_account WHERE step > 0 AND is_order",
    # Orders that carry lines of another one: children of a split, merged orders, orders taken up again. Plain ones have no row.
    """
    CREATE TABLE origin_part (
        origin_order_id uuid NOT NULL,
        order_id uuid NOT NULL,
        PRIMARY KEY (origin_order_id, order_id)
    )
    """,
    "CREATE INDEX origin_part_order ON origin_part (order_id)",
    """
    CREATE TABLE profit_fact (
        voucher_id uuid NOT NULL,
        line integer NOT NULL CHECK (line >= 1),
        phase text COLLATE "C" NOT NULL CHECK (phase IN (
            'paid', 'changed', 'shipped', 'arrived', 'delivered', 'receipt_confirmed', 'recognised', 'refunded', 'return_good',
            'return_bad', 'return_missing', 'write_off', 'lost', 'recognition_overlap', 'cost_overlap', 'loss_overlap'
        )),
        order_id uuid NOT NULL,
        shipment_id uuid CHECK (shipment_id IS NOT NULL OR phase NOT IN ('shipped', 'arrived', 'delivered', 'recognised')),
        origin_order_id uuid NOT NULL,
        origin_line integer NOT NULL CHECK (origin_line >= 0),
        channel text COLLATE "C" NOT NULL,
        shop_id text COLLATE "C" NOT NULL,
        sku_id text COLLATE "C" NOT NULL,
        currency text COLLATE "C" NOT NULL,
        paid_on date NOT NULL,
        occurred_on date NOT NULL,
        quantity integer NOT NULL,
        revenue_minor bigint NOT NULL,
        tax_minor bigint NOT NULL,
        cost_minor bigint NOT NULL,
        freight_minor bigint NOT NULL,
        PRIMARY KEY (voucher_id, line)
    )
    """,
    # Days only grow, so these cost next to nothing to keep.
    "CREATE INDEX profit_fact_recognised ON profit_fact (occurred_on)"
    " WHERE phase IN ('delivered', 'recognised', 'recognition_overlap', 'cost_overlap', 'write_off')",
    # Few: only what a receipt made recognised. All other facts of a parcel are found by its order.
    "CREATE INDEX profit_fact_parcel ON profit_fact (shipment_id) WHERE phase = 'recognised'",
    "CREATE INDEX profit_fact_paid ON profit_fact (paid_on)",
    """
    CREATE TABLE posting_flag (
        flag_id uuid PRIMARY KEY,
        event_id uuid NOT NULL,
        template text COLLATE "C" NOT NULL,
        order_id uuid NOT NULL,
        code text COLLATE "C" NOT NULL,
        params jsonb NOT NULL,
        content_hash bytea NOT NULL,
        flagged_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX posting_flag_newest ON posting_flag (flagged_at, flag_id)",
    "CREATE INDEX posting_flag_order ON posting_flag (order_id)",
)

# Checked once per statement, over all its vouchers: 0.6 ms for 900 vouchers of four postings, where a deferred constraint
# trigger takes 8 ms on the voucher and 22 ms on the posting (PostgreSQL 18, 2026-11). An insert must bring whole vouchers, so
# every voucher balances after every statement, whoever wrote it, and before any counter is locked.
BALANCE: Sequence[str] = (
    """
    CREATE FUNCTION refuse_unbalanced_postings() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        bad record;
    BEGIN
        SELECT sums.*, v.total_minor, v.posting_count INTO bad
        FROM (
            SELECT voucher_id, sum(debit_minor) AS debit, sum(credit_minor) AS credit, count(*) AS lines
            FROM added GROUP BY voucher_id
        ) AS sums
        LEFT JOIN voucher AS v USING (voucher_id)
        WHERE v.voucher_id IS NULL
           OR sums.debit <> sums.credit OR sums.debit <> v.total_minor OR sums.lines <> v.posting_count
        LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'voucher % does not balance: debit %, credit % in % postings, announced % in %',
                bad.voucher_id, bad.debit, bad.credit, bad.lines, bad.total_minor, bad.posting_count
                USING ERRCODE = 'check_violation', CONSTRAINT = 'posting_balance', TABLE = 'posting';
        END IF;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE TRIGGER posting_balance AFTER INSERT ON posting
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION refuse_unbalanced_postings()
    """,
    """
    CREATE FUNCTION refuse_changed_books() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION '% is insert-only: correct a voucher by a reversal', TG_TABLE_NAME
            USING ERRCODE = 'restrict_violation', TABLE = TG_TABLE_NAME;
    END
    $$
    """,
    *(
        f"""
        CREATE TRIGGER {table}_insert_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_changed_books()
        """
        for table in (
            "voucher",
            "posting",
            "voucher_number",
            "chain_link",
            "chart_version",
            "template_version",
            "policy_version",
        )
    ),
)

# 财会 account codes as most books use them; whoever runs this puts their own chart in place.
CHART = [
    ("1012", "其他货币资金", "Other monetary funds", "asset", "debit"),
    ("1122", "应收账款", "Accounts receivable", "asset", "debit"),
    ("1122.01", "应收账款-平台", "Receivable from platforms", "asset", "debit"),
    ("1122.02", "应收账款-平台补贴", "Receivable subsidies", "asset", "debit"),
    ("1122.03", "应收账款-快递代收", "Receivable from couriers (COD)", "asset", "debit"),
    ("1405", "库存商品", "Goods in stock", "asset", "debit"),
    ("1405.01", "库存商品-正品", "Goods for sale", "asset", "debit"),
    ("1405.02", "库存商品-残次", "Damaged goods", "asset", "debit"),
    ("1405.03", "库存商品-在途", "Goods in transfer", "asset", "debit"),
    ("1406", "发出商品", "Goods shipped", "asset", "debit"),
    ("1901", "待处理财产损溢", "Losses and gains to be cleared", "asset", "debit"),
    ("2202", "应付账款", "Accounts payable", "liability", "credit"),
    ("2202.01", "应付账款-快递暂估", "Payable to couriers (estimated)", "liability", "credit"),
    ("2202.02", "应付账款-暂估", "Payable for goods (not invoiced)", "liability", "credit"),
    ("2204", "合同负债", "Contract liability", "liability", "credit"),
    ("2221", "应交税费", "Taxes payable", "liability", "credit"),
    ("2221.01", "应交税费-销项税额", "Output VAT", "liability", "credit"),
    ("2221.07", "待转销项税额", "Output VAT to be recognised", "liability", "credit"),
    ("6001", "主营业务收入", "Revenue", "revenue", "credit"),
    ("6401", "主营业务成本", "Cost of sales", "expense", "debit"),
    ("6601", "销售费用", "Selling expenses", "expense", "debit"),
    ("6601.01", "销售费用-运费", "Freight", "expense", "debit"),
    ("6701", "资产减值损失", "Impairment of assets", "expense", "debit"),
]


def line(account: str, side: str, amount: str, *collections: str) -> dict[str, object]:
    when = {"when": {"collection": list(collections)}} if collections else {}
    return {"account": account, "side": side, "amount": amount, "per": "order"} | when


def sale(side: str) -> list[dict[str, object]]:
    """Who owes us (`side`) and what we owe the buyer."""
    other = "credit" if side == "debit" else "debit"
    return [
        line("1122.01", side, "paid", "platform_escrow", "other"),
        line("1012", side, "paid", "direct"),
        line("1122.03", side, "paid", "cash_on_delivery"),
        line("1122.02", side, "subsidy"),
        line("2204", other, "net_of_tax"),
        line("2221.07", other, "tax"),
    ]


def moved(debit: str, credit: str) -> list[dict[str, object]]:
    return [line(debit, "debit", "cost"), line(credit, "credit", "cost")]


def damaged(credit: str) -> list[dict[str, object]]:
    return [line("1405.02", "debit", "residual"), line("6701", "debit", "write_off"), line(credit, "credit", "cost")]


RECOGNITION = [
    line("2204", "debit", "net_of_tax"),
    line("2221.07", "debit", "tax"),
    line("6001", "credit", "net_of_tax"),
    line("2221.01", "credit", "tax"),
    line("6401", "debit", "cost"),
    line("1406", "credit", "cost"),
]
FREIGHT = [line("6601.01", "debit", "freight_estimate"), line("2202.01", "credit", "freight_estimate")]
TEMPLATES = [
    ("paid", "收款", sale("debit")),
    ("changed", "改价", sale("debit")),
    ("shipped", "发货", [*moved("1406", "1405.01"), *FREIGHT]),
    ("delivered", "签收", RECOGNITION),
    ("recognised", "确认收货", RECOGNITION),
    ("refunded", "退款", sale("credit")),
    (
        "recognition_overlap",
        "冲减收入",
        [
            line("6001", "debit", "net_of_tax"),
            line("2221.01", "debit", "tax"),
            line("2204", "credit", "net_of_tax"),
            line("2221.07", "credit", "tax"),
        ],
    ),
    ("return_good", "退货入库", moved("1405.01", "1406")),
    ("return_bad", "残次退货", damaged("1406")),
    ("return_missing", "退货缺失", moved("1901", "1406")),
    ("lost", "丢件", moved("1901", "1406")),
    ("cost_overlap", "冲减成本", moved("1406", "6401")),
    ("loss_overlap", "丢件找回", moved("1406", "1901")),
    ("stock_received", "暂估入库", moved("1405.01", "2202.02")),
    ("stock_difference", "盘盈盘亏", moved("1405.01", "1901")),
    ("stock_damaged", "库存残次", damaged("1405.01")),
    ("stock_transfer_out", "调拨出库", moved("1405.03", "1405.01")),
    ("stock_transfer_in", "调拨入库", moved("1405.01", "1405.03")),
]


def upgrade() -> None:
    eventing.migrations.upgrade(op, to=1)
    webapi.migrations.upgrade(op, to=1)
    for statement in (*TABLES, *BALANCE):
        op.execute(statement)
    names = ("code", "name", "english", "type", "direction")
    chart = [dict(zip(names, account, strict=True)) for account in CHART]
    op.get_bind().execute(
        sa.text("INSERT INTO chart_version VALUES (1, CAST(:document AS jsonb), now(), 'migration')"),
        {"document": json.dumps(chart, ensure_ascii=False)},
    )
    for code, name, lines in TEMPLATES:
        op.get_bind().execute(
            sa.text(
                "INSERT INTO template_version VALUES"
                " (:code, 1, '1970-01-01 00:00:00+00', '记', :name, CAST(:document AS jsonb), now(), 'migration')"
            ),
            {"code": code, "name": name, "document": json.dumps(lines)},
        )


def downgrade() -> None:
    op.execute("DROP VIEW posted_order")
    tables = (
        "posting_flag profit_fact origin_part order_account owed_balance owed_delta account_balance balance_delta chain_link"
        " voucher_counter voucher_number posting voucher policy_version closed_period template_version chart_version"
    )
    for table in tables.split():
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP FUNCTION refuse_changed_books()")
    op.execute("DROP FUNCTION refuse_unbalanced_postings()")
    webapi.migrations.downgrade(op, to=0)
    eventing.migrations.downgrade(op, to=0)
