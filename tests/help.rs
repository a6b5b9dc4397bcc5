//! Pins what the program prints before it does anything: help, usage errors, exit statuses.
//! `TRYCMD=overwrite` writes the files anew.

#[test]
fn help_and_usage() {
    trycmd::TestCases::new()
        .env("COLUMNS", "100")
        .case("tests/golden/help/*.trycmd")
        .case("tests/golden/usage/*.trycmd");
}
