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
    # The claim of (event, template), and all that a voucher says. A row without postings is a claim alone: it has no number.
    """
    CREATE TABLE voucher (
        voucher_id uuid PRIMARY KEY,
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
        CONSTRAINT voucher_claim UNIQUE (event_id, template)
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
    """
    CREATE TABLE posted_order (
        order_id uuid PRIMARY KEY,
        root_id uuid NOT NULL,
        step integer NOT NULL CHECK (step >= 1)
    ) WITH (fillfactor = 70)
    """,
    """
    CREATE TABLE profit_fact (
        voucher_id uuid NOT NULL,
        line integer NOT NULL CHECK (line >= 1),
        phase text COLLATE "C" NOT NULL CHECK (phase IN ('paid', 'shipped', 'delivered')),
        order_id uuid NOT NULL,
        shipment_id uuid CHECK ((shipment_id IS NULL) = (phase = 'paid')),
        origin_order_id uuid NOT NULL,
        origin_line integer NOT NULL CHECK (origin_line >= 0),
        channel text COLLATE "C" NOT NULL,
        shop_id text COLLATE "C" NOT NULL,
        sku_id text COLLATE "C" NOT NULL,
        currency text COLLATE "C" NOT NULL,
        paid_on date NOT NULL,
        occurred_on date NOT NULL,
        quantity integer NOT NULL CHECK (quantity >= 0),
        revenue_minor bigint NOT NULL,
        tax_minor bigint NOT NULL,
        cost_minor bigint NOT NULL,
        freight_minor bigint NOT NULL,
        PRIMARY KEY (voucher_id, line)
    )
    """,
    # Days only grow, so these cost next to nothing to keep.
    "CREATE INDEX profit_fact_recognised ON profit_fact (occurred_on) WHERE phase = 'delivered'",
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
        flagged_at timestamptz NOT NULL,
        CONSTRAINT posting_flag_once UNIQUE (event_id, template, code, content_hash)
    )
    """,
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
        for table in ("voucher", "posting", "voucher_number", "chain_link", "chart_version", "template_version")
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
    ("1406", "发出商品", "Goods shipped", "asset", "debit"),
    ("2202", "应付账款", "Accounts payable", "liability", "credit"),
    ("2202.01", "应付账款-快递暂估", "Payable to couriers (estimated)", "liability", "credit"),
    ("2204", "合同负债", "Contract liability", "liability", "credit"),
    ("2221", "应交税费", "Taxes payable", "liability", "credit"),
    ("2221.01", "应交税费-销项税额", "Output VAT", "liability", "credit"),
    ("2221.07", "待转销项税额", "Output VAT to be recognised", "liability", "credit"),
    ("6001", "主营业务收入", "Revenue", "revenue", "credit"),
    ("6401", "主营业务成本", "Cost of sales", "expense", "debit"),
    ("6601", "销售费用", "Selling expenses", "expense", "debit"),
    ("6601.01", "销售费用-运费", "Freight", "expense", "debit"),
]


def line(account: str, side: str, amount: str, *collections: str) -> dict[str, object]:
    when = {"when": {"collection": list(collections)}} if collections else {}
    return {"account": account, "side": side, "amount": amount, "per": "order"} | when


TEMPLATES = [
    (
        "paid",
        "收款",
        [
            line("1122.01", "debit", "paid", "platform_escrow", "other"),
            line("1012", "debit", "paid", "direct"),
            line("1122.03", "debit", "paid", "cash_on_delivery"),
            line("1122.02", "debit", "subsidy"),
            line("2204", "credit", "net_of_tax"),
            line("2221.07", "credit", "tax"),
        ],
    ),
    (
        "shipped",
        "发货",
        [
            line("1406", "debit", "cost"),
            line("1405", "credit", "cost"),
            line("6601.01", "debit", "freight_estimate"),
            line("2202.01", "credit", "freight_estimate"),
        ],
    ),
    (
        "delivered",
        "签收",
        [
            line("2204", "debit", "net_of_tax"),
            line("2221.07", "debit", "tax"),
            line("6001", "credit", "net_of_tax"),
            line("2221.01", "credit", "tax"),
            line("6401", "debit", "cost"),
            line("1406", "credit", "cost"),
        ],
    ),
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
    tables = (
        "posting_flag profit_fact posted_order account_balance balance_delta chain_link voucher_counter voucher_number posting"
        " voucher closed_period template_version chart_version"
    )
    for table in tables.split():
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP FUNCTION refuse_changed_books()")
    op.execute("DROP FUNCTION refuse_unbalanced_postings()")
    webapi.migrations.downgrade(op, to=0)
    eventing.migrations.downgrade(op, to=0)
