from ehr_bert.report.markdown import markdown_table


def test_columns_are_padded_and_numbers_are_aligned_right():
    assert markdown_table(["a", "long title", "n"], [["first", "1", "1,000"], ["b", "22", ""]]) == (
        "| a     | long title |     n |\n"
        "| ----- | ---------: | ----: |\n"
        "| first |          1 | 1,000 |\n"
        "| b     |         22 |       |"
    )


def test_a_table_without_rows_has_a_header():
    assert markdown_table(["a", "b"], []) == "| a   |   b |\n| --- | --: |"
