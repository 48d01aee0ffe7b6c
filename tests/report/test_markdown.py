from ehr_bert.report.markdown import markdown_table


def test_columns_stand_under_each_other_and_figures_flush_right():
    assert markdown_table(["a", "long title", "n"], [["first", "1", "1,000"], ["b", "22", ""]]) == (
        "| a     | long title |     n |\n"
        "| ----- | ---------: | ----: |\n"
        "| first |          1 | 1,000 |\n"
        "| b     |         22 |       |"
    )


def test_a_table_without_rows_has_its_titles():
    assert markdown_table(["a", "b"], []) == "| a   |   b |\n| --- | --: |"
