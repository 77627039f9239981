"""A demo WMS that speaks the http protocol (docs/wms-http.md): slow, picky and forgetful as its dials say."""
