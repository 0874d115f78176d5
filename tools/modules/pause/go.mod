module github.com/sluice-dev/sluice/tools/modules/pause

go 1.26.0
