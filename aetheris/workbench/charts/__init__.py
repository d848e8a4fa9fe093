"""Pure plotly figure builders: data in, figure out. Charts know no panel and no source."""
