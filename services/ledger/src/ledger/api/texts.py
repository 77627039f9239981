"""What the ledger says when it refuses, in English and Chinese."""

from webapi.texts import register_texts


def register() -> None:
    register_texts(
        {
            "voucher_not_found": (
                "No such voucher. Check the id, or search with GET /v1/vouchers.",
                "没有这张凭证。请核对编号，或用 GET /v1/vouchers 查询。",
            ),
            "template_not_found": (
                "No such template. There is one per fact: {known}.",
                "没有这个模板。每种业务事实各有一个：{known}。",
            ),
            "template_refused": (
                "The template cannot be used. It must balance for every amount and use accounts and terms that exist;"
                " nothing was changed, see errors.",
                "模板不可用。任意金额下借贷必须相等，科目与金额项必须存在；未做任何更改，详见 errors。",
            ),
            "unbalanced_template": (
                "Debits and credits differ where the money is collected by {collection}: debits minus credits is {difference}.",
                "收款方式为 {collection} 时借贷不平：借方减贷方为 {difference}。",
            ),
            "account_not_postable": (
                "Account {account} is not in the chart, or has accounts below it.",
                "科目 {account} 不在科目表中，或不是末级科目。",
            ),
            "term_not_known": (
                "The events of template {template} do not carry this amount. They carry: {known}.",
                "模板 {template} 的事件没有这个金额项。可用：{known}。",
            ),
            "valid_from_in_the_past": (
                "A version cannot begin in the past. Vouchers of that time were posted by the version then in force.",
                "版本生效时间不能早于当前时间。此前的凭证已按当时的版本入账。",
            ),
            "chart_refused": (
                "The chart of accounts cannot be used. Accounts in use must stay as they are; nothing was changed, see errors.",
                "科目表不可用。已使用的科目不得删除或更改类别与方向；未做任何更改，详见 errors。",
            ),
            "account_twice": ("This code is in the chart twice.", "科目编码重复。"),
            "account_has_no_parent": (
                "The account above it, {parent}, is missing.",
                "上级科目 {parent} 不在科目表中。",
            ),
            "account_in_use": (
                "Account {account} is used by postings or templates: it must stay, without accounts below it, of the same type"
                " and direction.",
                "科目 {account} 已被凭证或模板使用：不得删除、增设下级或更改类别与方向。",
            ),
            "chart_changed_meanwhile": (
                "The chart was changed meanwhile. Read it again with GET /v1/accounts and repeat your change.",
                "科目表已被他人更改。请用 GET /v1/accounts 重新读取后再修改。",
            ),
            "period_in_the_future": (
                "A period that has not begun cannot be closed. The current one is {current}.",
                "未开始的期间不能结账。当前期间为 {current}。",
            ),
            "period_not_closed": ("The period is open. Only a closed period can be opened.", "该期间未结账，无需反结账。"),
            "later_period_closed": (
                "A later period is closed. Open {latest} first: periods are opened from the last one back.",
                "其后期间已结账。请先反结账 {latest}，须从最后一个期间依次进行。",
            ),
            "period_already_closed": (
                "The period is closed already. Nothing was changed; see GET /v1/periods.",
                "该期间已结账。未做任何更改，请见 GET /v1/periods。",
            ),
            "as_of_outside_period": (
                "The day is not in the period. Give one of them.",
                "日期不在该期间内。请只给其中一个。",
            ),
            "policy_refused": (
                "The policy cannot be used. Nothing was changed, see errors.",
                "该政策不可用。未做任何更改，详见 errors。",
            ),
            "order_not_posted": (
                "Nothing of this order is in the books yet. Check the id, or wait for its payment to arrive.",
                "该订单尚未入账。请核对编号，或等待收款事件到达。",
            ),
            "liability_open": (
                "{amount} is still owed to the buyer: not delivered and not refunded.",
                "尚欠买家 {amount}：未签收也未退款。",
            ),
            "goods_out": (
                "Goods worth {amount} are out: shipped, and neither delivered, returned nor reported lost.",
                "发出商品余额 {amount}：已发货，未签收、未退回、未报丢件。",
            ),
            "reversal_not_reversible": (
                "A reversal cannot be reversed. Post what is right with POST /v1/vouchers.",
                "冲销凭证不能再冲销。请用 POST /v1/vouchers 重新录入正确分录。",
            ),
            "voucher_is_derived": (
                "This voucher follows from others of its order and would be posted again. Reverse the one that it follows from;"
                " see GET /v1/orders/{order_id}/accounts.",
                "该凭证由同一订单的其他凭证推导，单独冲销会再次生成。请冲销其来源凭证，见 GET /v1/orders/{order_id}/accounts。",
            ),
            "voucher_already_reversed": (
                "The voucher was reversed before. Its `reversed_by` names the reversal; nothing was changed.",
                "该凭证已冲销。冲销凭证见其 reversed_by；未做任何更改。",
            ),
            "voucher_refused": (
                "The voucher cannot be posted. Debits must equal credits on accounts of the chart;"
                " nothing was changed, see errors.",
                "凭证不能入账。借贷必须相等，科目须为末级科目；未做任何更改，详见 errors。",
            ),
            "voucher_unbalanced": (
                "Debits and credits differ: debits minus credits is {difference_minor} minor units.",
                "借贷不平：借方减贷方为 {difference_minor} 分。",
            ),
            "entry_needs_one_side": (
                "An entry has either a debit or a credit.",
                "每条分录只能有借方或贷方金额之一，且须大于零。",
            ),
            "summary_is_personal": (
                "The summary seems to hold a phone number, an identity card or an e-mail address, and could never be erased."
                " Name the order instead.",
                "摘要疑似包含电话、身份证号或邮箱，且凭证不可删除。请改写订单号。",
            ),
            "day_out_of_range": (
                "The day lies before 2000 or after today.",
                "日期早于 2000 年或晚于今天。",
            ),
            "totals_crossed": ("The least total is greater than the greatest.", "最小金额大于最大金额。"),
            "days_crossed": ("The first day comes after the last one.", "起始日期晚于截止日期。"),
        }
    )
